"""The tag against HMAC as RFC 2104 writes it down, the keys as operators write them."""

import hashlib
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretBytes
from structlog.testing import capture_logs

from semlink.service.header_tag import device_key, header_tag, keys_of_devices
from semlink.service.settings import StartupError
from semlink.source.iaq.frame import Geometry, IaqFrame
from server.frames import HeaderKeys
from server.refusals import BadTag

KEY = bytes(range(32))
FRAME = IaqFrame(Geometry(2, 2, 2, 1), 8, 3, 200, np.array([0, 1, 5, 8], np.uint8), bytes(7))
HEADER = FRAME.to_bytes()[: FRAME.header_bits // 8]
VIEW = {"object_id": "cup", "device_id": "left", "frame_id": 3, "expected_views": 4}

keys = st.binary(min_size=32, max_size=64)
views = st.fixed_dictionaries(
    {
        "object_id": st.text(max_size=5),
        "device_id": st.text(max_size=5),
        "frame_id": st.integers(0, 2**64 - 1),
        "expected_views": st.integers(1, 64),
        "layer": st.integers(0, 7),
        "more": st.integers(0, 2),
    }
)


def hmac_sha256(key: bytes, message: bytes) -> bytes:
    """H(K xor opad, H(K xor ipad, text)), RFC 2104, for keys of at most a block."""
    padded = key.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded) + message).digest()
    return hashlib.sha256(bytes(byte ^ 0x5C for byte in padded) + inner).digest()


class TestTag:
    def test_the_tests_hmac_is_that_of_rfc_4231(self):
        """Its test cases 1 and 2."""
        one = hmac_sha256(b"\x0b" * 20, b"Hi There")
        assert one.hex() == "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"
        two = hmac_sha256(b"Jefe", b"what do ya want for nothing?")
        assert two.hex() == "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"

    @given(keys, st.binary(max_size=200), views)
    def test_is_the_first_half_of_hmac_over_what_is_documented(self, key, header, view):
        layered = bytes((view["layer"], view["more"]))
        message = b"semlink header tag 2\0" if any(layered) else b"semlink header tag 1\0"
        for text in (view["object_id"], view["device_id"]):
            message += struct.pack(">I", len(text.encode())) + text.encode()
        message += view["frame_id"].to_bytes(8, "big") + view["expected_views"].to_bytes(4, "big")
        message += (layered if any(layered) else b"") + header
        assert header_tag(key, header, **view) == hmac_sha256(key, message)[:16]

    @given(views, views)
    def test_other_fields_another_tag(self, one, other):
        assert (header_tag(KEY, HEADER, **one) == header_tag(KEY, HEADER, **other)) == (one == other)

    @given(st.binary(max_size=8), st.integers(0, 7), st.integers(0, 2))
    def test_a_layer_is_no_part_of_a_header(self, header, layer, more):
        layered = header_tag(KEY, header, **VIEW, layer=layer, more=more)
        assert layered != header_tag(KEY, bytes((layer, more)) + header, **VIEW)

    def test_of_one_frame_is_what_it_always_was(self):
        """As made before there were layers."""
        assert header_tag(KEY, b"header", **VIEW).hex() == "1fe645ac6b61ad7acb846bff5ebe1002"

    @given(views, st.text(min_size=1, max_size=3))
    def test_what_moves_from_one_id_to_the_other_is_noticed(self, view, part):
        one = view | {"object_id": view["object_id"] + part}
        other = view | {"device_id": part + view["device_id"]}
        assert header_tag(KEY, HEADER, **one) != header_tag(KEY, HEADER, **other)


class TestCheck:
    taken = HeaderKeys({"left": SecretBytes(KEY), "right": SecretBytes(KEY[::-1])})
    tag = header_tag(KEY, HEADER, **VIEW)

    def test_takes_the_devices_own(self):
        self.taken.check(self.tag, HEADER, **VIEW)

    @given(st.integers(0, FRAME.header_bits - 1))
    def test_every_bit_of_the_header_counts(self, position):
        header = bytearray(HEADER)
        header[position // 8] ^= 0x80 >> position % 8
        with pytest.raises(BadTag):
            self.taken.check(self.tag, bytes(header), **VIEW)

    @given(st.integers(0, 8 * 16 - 1))
    def test_every_bit_of_the_tag_counts(self, position):
        tag = bytearray(self.tag)
        tag[position // 8] ^= 0x80 >> position % 8
        with pytest.raises(BadTag):
            self.taken.check(bytes(tag), HEADER, **VIEW)

    @pytest.mark.parametrize("tag", [b"", tag[:-1], tag + b"\0", hmac_sha256(KEY, b"")])
    def test_nothing_else_is_a_tag(self, tag):
        with pytest.raises(BadTag):
            self.taken.check(tag, HEADER, **VIEW)

    def test_unknown_device_and_wrong_key_are_told_the_same(self):
        refusals = []
        for device_id, key in (("nobody", KEY), ("", KEY), ("right", KEY), ("left", bytes(32))):
            view = VIEW | {"device_id": device_id}
            with pytest.raises(BadTag) as refusal:
                self.taken.check(header_tag(key, HEADER, **view), HEADER, **view)
            refusals.append(str(refusal.value))
        assert len(set(refusals)) == 1


class TestKeys:
    @pytest.fixture
    def file(self, tmp_path, monkeypatch):
        monkeypatch.delenv("SEMLINK_HEADER_KEY", raising=False)
        return tmp_path / "keys"

    def test_of_all_devices(self, file):
        file.write_text(f"left {KEY.hex()}\n\n  hall / camera 2\t{KEY.hex().upper()} \n# {'ab' * 64}")
        assert {device: key.get_secret_value() for device, key in keys_of_devices(file).items()} == {
            "left": KEY, "hall / camera 2": KEY, "#": b"\xab" * 64
        }  # fmt: skip

    def test_of_one_device(self, file, monkeypatch):
        assert device_key(None) is None
        file.write_text(KEY.hex() + "\n")
        assert device_key(file).get_secret_value() == KEY
        monkeypatch.setenv("SEMLINK_HEADER_KEY", KEY[::-1].hex())
        assert device_key(None).get_secret_value() == KEY[::-1]
        with pytest.raises(StartupError, match="not both"):
            device_key(file)

    @pytest.mark.parametrize("key", ["", "ab" * 31, "ab" * 65, "a" * 65, "x" + "a" * 63, "ab " * 32, "١" * 64])
    def test_that_are_none_are_refused_and_not_told(self, file, monkeypatch, key):
        file.write_text(key)
        with pytest.raises(StartupError, match="openssl rand -hex 32") as refusal:
            device_key(file)
        assert str(file) in str(refusal.value)
        assert not key or key not in str(refusal.value)
        monkeypatch.setenv("SEMLINK_HEADER_KEY", key or " ")
        with pytest.raises(StartupError, match=r"^SEMLINK_HEADER_KEY: "):
            device_key(None)

    @pytest.mark.parametrize(
        ("lines", "complaint"),
        [
            (f"left {KEY.hex()}\n{KEY.hex()}\n", "line 2: must be a device id of 1 to 128"),
            (f"{'x' * 129} {KEY.hex()}", "line 1: must be a device id of 1 to 128"),
            (f"left {KEY.hex()}\nleft {KEY.hex()}", "line 2: device 'left' has a key already"),
            (f"left\n{KEY.hex()}", "line 1: must be"),
            (f"left {KEY.hex()[:-2]}", "line 1: a key is 64 to 128"),
            (f"{KEY.hex()} left", "line 1: a key is 64 to 128"),
            ("\n \n", "holds no keys"),
        ],
    )
    def test_lines_that_are_wrong_are_named_and_not_quoted(self, file, lines, complaint):
        file.write_text(lines)
        with pytest.raises(StartupError, match=complaint) as refusal:
            keys_of_devices(file)
        assert KEY.hex()[:-2] not in str(refusal.value)

    def test_files_that_cannot_be_read(self, file):
        for read, flag in ((device_key, "--header-key-file"), (keys_of_devices, "--header-keys-file")):
            with pytest.raises(StartupError, match=rf"cannot read {file} \({flag}\): No such file"):
                read(file)
        file.write_bytes(b"left \xff\xfe")
        with pytest.raises(StartupError, match="UTF-8"):
            keys_of_devices(file)

    @pytest.mark.parametrize(("mode", "warned"), [(0o600, False), (0o640, True), (0o604, True)])
    def test_warns_of_a_file_that_others_may_read(self, file, mode, warned):
        for read, text in ((device_key, KEY.hex()), (keys_of_devices, f"left {KEY.hex()}")):
            file.write_text(text)
            file.chmod(mode)
            with capture_logs() as logs:
                read(file)
            assert [log["advice"] for log in logs] == [f"chmod 600 {file}"] * warned
