"""Writes the seeds of the fuzz targets that are not files of fixtures/ already; the standard library is enough.

Fuzzers do not see through compression, so the variables of fixtures/mat are unpacked here and stand without a header,
which the target adds.
"""

import gzip
import pathlib
import struct
import zlib

fuzz = pathlib.Path(__file__).parent
seeds = fuzz / "seeds"


def write(name, content):
    path = seeds / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


for path in sorted((fuzz / "../fixtures/mat").glob("*.mat")):
    content, at, unpacked = path.read_bytes(), 128, b""
    while at < len(content):
        kind, size = struct.unpack_from("<II", content, at)
        body = content[at + 8 : at + 8 + size]
        unpacked += zlib.decompress(body) if kind == 15 else content[at : at + 8 + size]
        at += 8 + size
    write(f"mat/{path.stem}", unpacked)

images = struct.pack(">BBBBIII", 0, 0, 8, 3, 2, 2, 3) + bytes(range(12))
write("idx/images", images)
write("idx/images.gz", gzip.compress(images, mtime=0))
write("idx/ids", struct.pack(">BBBBI3i", 0, 0, 12, 1, 3, 5, -6, 7))

write("lists/aircraft", b"\xef\xbb\xbf1034309 Boeing 717\r\n\r\n0056978 F/A-18\n")
write("lists/cub", b"1 001.Black_footed_Albatross/Black_Footed_Albatross_0046_18.jpg\n2 002.X/y.jpg\n")
write("lists/csv", b'path,label\n"a ""b"".png",3\n./c/d.png,"x, y"\n')
write("lists/columns", b"id,label,image\n7,cat,a/b.jpg\n")
write("lists/escapes", b"../up.png,1\n/etc/x,2\nC:x,3\na\\b,4\n")
