"""Codecs of today as source coders: AV1 stills (AVIF), WebP and JPEG without their containers."""
