"""Names in the paths of requests over HTTP, whatever they are made of."""

from starlette.convertors import PathConvertor, register_url_convertor

NAME = "name"
"""Kind of a path's last parameter: `/v1/things/{thing:name}` takes slashes, and unlike `path` line breaks too."""


class _NameConvertor(PathConvertor):
    regex = "(?s:.*)"


register_url_convertor(NAME, _NameConvertor())
