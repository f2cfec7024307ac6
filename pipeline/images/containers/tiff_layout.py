"""Defines how the pixels of a TIFF are laid out, which kinds are read, and names for the others."""

from __future__ import annotations

import dataclasses
from functools import cached_property

from pipeline.errors import ImageError
from pipeline.records import Reason

WHITE_IS_ZERO, BLACK_IS_ZERO, RGB, PALETTE, CMYK, YCBCR, CIE_LAB, ICC_LAB = 0, 1, 2, 3, 5, 6, 8, 9
UNSIGNED, SIGNED, FLOAT = 1, 2, 3
UNCOMPRESSED, LZW, OLD_JPEG, JPEG, PACKBITS, WEBP = 1, 5, 6, 7, 32773, 50001
FAX = (2, 3, 4)
DEFLATE = (8, 32946)
LZMA, ZSTD = 34925, 50000
# Of these, the samples of a row may be stored as differences.
_PREDICTED = (LZW, *DEFLATE, LZMA, ZSTD)
_EVERYDAY = (UNCOMPRESSED, LZW, JPEG, PACKBITS, *DEFLATE)
# Each strip or tile of these is an image file.
IMAGE_FILES = (OLD_JPEG, JPEG, WEBP)

_PHOTOMETRICS = {
    **{0: "min-is-white", 1: "min-is-black", 2: "RGB", 3: "palette", 4: "transparency mask"},
    **{5: "CMYK", 6: "YCbCr", 8: "CIE L*a*b*", 9: "ICC L*a*b*", 10: "ITU L*a*b*"},
    **{32803: "color filter array", 32844: "LogL", 32845: "LogLuv", 34892: "linear raw"},
    **{51177: "depth map"},
}
_COMPRESSIONS = {
    **{1: "uncompressed", 2: "CCITT RLE", 3: "CCITT Group 3", 4: "CCITT Group 4", 5: "LZW"},
    **{6: "old-style JPEG", 7: "JPEG", 8: "deflate", 9: "JBIG", 10: "JBIG", 32766: "NeXT"},
    **{32767: "Sony ARW", 32771: "CCITT RLE/W", 32773: "PackBits", 32809: "ThunderScan"},
    **{32908: "PixarFilm", 32909: "PixarLog", 32946: "deflate", 33003: "JPEG 2000"},
    **{33004: "JPEG 2000", 33005: "JPEG 2000", 33007: "JPEG", 34661: "JBIG", 34676: "SGILog"},
    **{34677: "SGILog24", 34712: "JPEG 2000", 34713: "Nikon NEF", 34715: "JBIG2"},
    **{34887: "LERC", 34892: "lossy JPEG", 34925: "LZMA", 34926: "Zstandard", 34927: "WebP"},
    **{34933: "PNG", 34934: "JPEG XR", 22610: "JPEG XR", 48124: "JetRaw", 50000: "Zstandard"},
    **{50001: "WebP", 50002: "JPEG XL", 52546: "JPEG XL", 65000: "Kodak", 65535: "Pentax PEF"},
}
_SAMPLES = {
    **{1: "unsigned integers", 2: "signed integers", 3: "floats", 4: "undefined samples"},
    **{5: "complex integers", 6: "complex floats"},
}

# The white list: color model → sample format → depths. Each row is held against tifffile in
# tests/images/test_tiff.py. Of 24 bits, decoders do not agree which byte is the first.
_DEPTHS: dict[str, dict[int, tuple[int, ...]]] = {
    "gray": {UNSIGNED: (*range(1, 17), 32), SIGNED: (16, 32), FLOAT: (16, 32, 64)},
    "RGB": {UNSIGNED: (*range(1, 17), 32), FLOAT: (16, 32, 64)},
    "palette": {UNSIGNED: tuple(range(1, 17))},
    "CMYK": {UNSIGNED: (8, 16)},
    "YCbCr": {UNSIGNED: (8,)},
    "Lab": {UNSIGNED: (8, 16)},
}
_MODELS = {RGB: ("RGB", 3), PALETTE: ("palette", 1), CMYK: ("CMYK", 4), YCBCR: ("YCbCr", 3)}
_MODELS |= {CIE_LAB: ("Lab", 3), ICC_LAB: ("Lab", 3)}
_ASSOCIATED, _UNASSOCIATED, _COREL_DRAW = 1, 2, 999
# A band that is stretched, or looked up in a table, has no depth that its strips' decoder knows.
_MODELS_OF_JPEG = ("gray", "RGB", "CMYK", "YCbCr")


@dataclasses.dataclass(frozen=True)
class Layout:
    """What a TIFF's directory says of its pixels; strips and tiles are both called segments.

    Attributes:
      order: of bytes, as ``struct`` has it.
      bits: of each sample.
      extra: what each sample after those of the color is.
      planar: each band is stored apart, in segments of its own.
      subsampling: of the chroma of YCbCr, across and down.
      nodata: the value that stands for no sample; None if there is none.
      offsets: of segments, from left to right and from top to bottom, band by band if planar.
      counts: of their bytes; none if the file does not say.
    """

    order: str
    width: int
    height: int
    photometric: int
    compression: int
    samples: int
    bits: int
    sample_format: int
    extra: tuple[int, ...]
    planar: bool
    predictor: int
    fill_order: int
    fax_options: tuple[int, int]
    subsampling: tuple[int, ...]
    coefficients: tuple[float, ...]
    reference: tuple[float, ...]
    ink_set: int
    color_map: tuple[int, ...]
    jpeg_tables: bytes
    jpeg_stream: tuple[int, int]
    nodata: float | None
    tiled: bool
    segment_width: int
    segment_height: int
    offsets: tuple[int, ...]
    counts: tuple[int, ...]

    def with_defaults(self) -> Layout:
        """With what libtiff takes for granted where the file does not say it."""
        photometric = self.photometric
        if self.compression == OLD_JPEG and self.samples == 3:
            photometric = YCBCR
        elif photometric < 0:
            fax = WHITE_IS_ZERO if self.compression in FAX else BLACK_IS_ZERO
            photometric = RGB if self.samples in (3, 4) else fax
        extra = self.extra
        if photometric == RGB and self.samples == 4 and not extra:
            extra = (_UNASSOCIATED,)
        depth = UNSIGNED if self.sample_format == 4 else self.sample_format
        predictor = self.predictor if self.compression in _PREDICTED else 1
        return dataclasses.replace(
            self,
            photometric=photometric,
            extra=extra,
            sample_format=depth,
            predictor=predictor,
            reference=self.reference if len(self.reference) == 6 else (0, 255, 128, 255, 128, 255),
        )

    @property
    def is_everyday(self) -> bool:
        """Whether its strips are compressed as most are, by programs that have seen many files."""
        return self.compression in _EVERYDAY

    @property
    def name(self) -> str:
        """The kind of TIFF, for people."""
        bands = f"{self.samples} band" + "s" * (self.samples != 1)
        return (
            f"{_PHOTOMETRICS.get(self.photometric, f'photometric {self.photometric}')}, "
            f"{bands} of {self.bits}-bit {_SAMPLES.get(self.sample_format, 'samples')}"
            f"{', planar' if self.planar else ''}, "
            f"{_COMPRESSIONS.get(self.compression, f'compression {self.compression}')}"
        )

    @cached_property
    def alpha(self) -> int | None:
        """The band that is alpha; None if there is none."""
        first = self.samples - len(self.extra)
        kinds = (_ASSOCIATED, _UNASSOCIATED, _COREL_DRAW)
        return next((first + n for n, kind in enumerate(self.extra) if kind in kinds), None)

    @property
    def associated(self) -> bool:
        """Whether the colors have been multiplied by alpha."""
        return self.alpha is not None and self.extra[self.alpha - self.samples] == _ASSOCIATED

    @cached_property
    def model(self) -> str:
        """What the bands of color are: a key of the white list, or "" if it is not known."""
        if self.photometric in _MODELS:
            return _MODELS[self.photometric][0]
        if self.photometric not in (WHITE_IS_ZERO, BLACK_IS_ZERO):
            return ""
        bands = self.samples - (self.alpha is not None)
        if bands == 3 and self.photometric == BLACK_IS_ZERO:  # as GDAL and tifffile write RGB
            return "RGB"
        return "gray" if bands == 1 else ""

    @cached_property
    def bands(self) -> tuple[int, ...]:
        """The bands that are decoded: those of the color, then alpha if there is one."""
        colors = {"gray": 1, "palette": 1, "CMYK": 4}.get(self.model, 3)
        alpha = () if self.alpha is None else (self.alpha,)
        return (*(n for n in range(self.samples) if n not in alpha), *alpha)[:colors] + alpha

    @property
    def subsampled(self) -> bool:
        """Whether chroma is stored once for several pixels, between the samples of luma."""
        stored = self.model == "YCbCr" and self.compression not in IMAGE_FILES
        return stored and not self.planar and self.subsampling != (1, 1)

    @property
    def stored_bands(self) -> int:
        """How many samples of a pixel are next to each other."""
        return 1 if self.planar else self.samples

    @property
    def rows_stored(self) -> int:
        """How many rows of pixels are in one stored row."""
        return self.subsampling[1] if self.subsampled else 1

    @property
    def row_bytes(self) -> int:
        """The size of one stored row of a segment."""
        if self.subsampled:
            across, down = self.subsampling
            return -(-self.segment_width // across) * (across * down + 2)
        return (self.segment_width * self.stored_bands * self.bits + 7) // 8

    @property
    def segments_across(self) -> int:
        """In a row of segments."""
        return -(-self.width // self.segment_width)

    @property
    def segments_down(self) -> int:
        """In a column of segments."""
        return -(-self.height // self.segment_height)

    def check(self) -> None:
        """Refuse what is not on the white list.

        Raises:
          ImageError: it is not, or its color map is too short.
        """
        why = self._unknown()
        if why:
            raise refuse(self, why)
        if self.model == "palette" and len(self.color_map) < 3 << self.bits:
            raise ImageError(
                Reason.CORRUPT,
                f"its color map has {len(self.color_map)} values for {self.bits} bits",
            )

    def _unknown(self) -> str:
        """Why it is not on the white list; "" if it is."""
        codecs = (UNCOMPRESSED, LZW, PACKBITS, *DEFLATE, LZMA, ZSTD, *FAX, *IMAGE_FILES)
        if self.compression not in codecs:
            return "its compression is not read"
        if not self.model:
            known = self.photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO)
            return (
                "which of its bands are colors is not said" if known else "its colors are not read"
            )
        colors = _MODELS.get(self.photometric, ("", 1))[1]
        if len(self.extra) > self.samples - colors or self.samples < colors:
            return "its bands are not those of its colors"
        if self.bits not in _DEPTHS[self.model].get(self.sample_format, ()):
            return "its depth is not read"
        if self.alpha is not None and (
            (self.model == "CMYK" and self.associated)
            or (self.sample_format != FLOAT and (self.sample_format != UNSIGNED or self.bits > 16))
        ):
            return "its alpha is not read"
        if self.model == "CMYK" and self.ink_set != 1:
            return "its inks are not those of CMYK"
        if self.predictor not in (1, 2, 3) or (self.predictor == 3) > (self.sample_format == FLOAT):
            return f"predictor {self.predictor} is not read"
        if self.predictor == 2 and self.bits not in (8, 16, 32, 64):
            return f"predictor 2 is not read at {self.bits} bits"
        if self.fill_order != 1 and self.compression not in (UNCOMPRESSED, LZW, PACKBITS, *FAX):
            return f"fill order {self.fill_order} is not read"
        if self.compression in FAX and (self.bits != 1 or self.stored_bands != 1):
            return "its compression is for one band of 1 bit"
        if self.compression in IMAGE_FILES:
            return self._unknown_image_files()
        if self.model == "YCbCr":
            return self._unknown_chroma()
        return ""

    def _unknown_image_files(self) -> str:
        if self.bits != 8 or self.sample_format != UNSIGNED or self.model not in _MODELS_OF_JPEG:
            return "its compression is for bands of 8 bits, gray, RGB, CMYK or YCbCr"
        if self.planar and self.model == "YCbCr":
            return "planar YCbCr is not read"
        if self.compression == WEBP and (self.planar or self.model != "RGB" or self.samples > 4):
            return "WebP is for RGB"
        if self.compression == OLD_JPEG and (not self.jpeg_stream[0] or self.samples not in (1, 3)):
            return "its compression is read where it is one whole JPEG"
        return ""

    def _unknown_chroma(self) -> str:
        across, down = self.subsampling
        if len(self.coefficients) != 3 or not all(0 < part < 1 for part in self.coefficients):
            return "its YCbCr coefficients make no colors"
        if self.planar and self.subsampling != (1, 1):
            return "planar YCbCr is not read"
        if across not in (1, 2, 4) or down not in (1, 2, 4):
            return f"chroma for {across} × {down} pixels is not read"
        if self.subsampled and (self.samples != 3 or self.predictor != 1):
            return "YCbCr with predictor or further bands is not read"
        if self.subsampled and self.segment_height % down and self.segments_down > 1:
            return "strips that divide the pixels of a chroma sample are not read"
        return ""


def refuse(layout: Layout, why: str) -> ImageError:
    """Make the error for a kind of TIFF that is not read."""
    return ImageError(Reason.UNSUPPORTED_FORMAT, f"a TIFF of {layout.name}: {why}")
