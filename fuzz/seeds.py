"""Writes the seeds of the fuzz targets that are not files of fixtures/ already; the standard library is enough.

Fuzzers do not see through compression, so the variables of fixtures/mat are unpacked here and stand without a header,
which the target adds.
"""

import gzip
import hashlib
import io
import json
import pathlib
import pickle
import struct
import sys
import types
import zipfile
import zlib
from collections import OrderedDict

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


def npy(kind, shape, content):
    header = repr({"descr": kind, "fortran_order": False, "shape": shape}).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


def stored(members):
    """An archive whose bytes do not depend on the day."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return buffer.getvalue()


def safetensors(tensors, metadata=None):
    header, data = {} if metadata is None else {"__metadata__": metadata}, b""
    for name, (kind, shape, content) in tensors.items():
        header[name] = {"dtype": kind, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


floats = struct.pack("<6f", 1, 2, 3, 4, 5, 6)
features = npy("<f4", (3, 2), floats)
write("npz/features", features)
write("npz/features.npz", stored({"features.npy": features}))
write("npz/images", npy("|u1", (2, 1, 1, 3), bytes(6)))
write("npz/labels", npy("<i8", (1,), struct.pack("<q", 4)))
write("npz/mean", npy("<f8", (1,), struct.pack("<d", 4)))
write("npz/covariance", npy("<f8", (1, 1), struct.pack("<d", 4)))
write("npz/count", npy("<u8", (), struct.pack("<Q", 4)))
source = b'{"extractor": "a", "resize": "b"}'
write("npz/source", npy("|u1", (len(source),), source))
write("npz/safetensors", safetensors({"features": ("F32", [3, 2], floats)}))
write(
    "npz/statistics",
    safetensors({"mu": ("F64", [1], struct.pack("<d", 1)), "sigma": ("F64", [1, 1], struct.pack("<d", 1))}),
)

labels = struct.pack("<3q", 0, 1, 1)
write("features/wide", safetensors({"features": ("F32", [3, 2], floats), "labels": ("I64", [3], labels)}))
write("features/maps", safetensors({"features": ("F16", [3, 1, 2, 1], floats[:12]), "labels": ("U8", [3], b"\0\1\1")}))

# The shard's hash is that of its data, so that the seed is a valid store.
data = struct.pack("<2q2q", 7, 9, 0, 1) + floats[:16]
label = {"key": "k", "index": 0, "start": 0, "end": 2, "sha256": hashlib.sha256(data).hexdigest()}
shard = safetensors(
    {"ids": ("I64", [2], data[:16]), "labels": ("I64", [2], data[16:32]), "c": ("F32", [2, 2], data[32:])},
    {"diffrep": json.dumps(label)},
)
spec = {
    "columns": [{"name": "c", "dim": 2, "meta": None}],
    "dtype": "f32",
    "samples": 2,
    "shard_rows": 2,
    "key": "k",
    "info": {},
    "contract": 1,
}
manifest = {"format": "diffrep-store", "version": 1, "spec": spec}
write("store/whole", json.dumps(manifest).encode() + b"\0" + shard)
write("store/manifest", json.dumps(manifest | {"spec": spec | {"samples": 9, "shard_rows": 1}}).encode())
write("store/endless", json.dumps(manifest | {"spec": spec | {"samples": 10**15, "shard_rows": 1}}).encode())

for path in sorted((fuzz / "../crates/diffrep-plan/experiments").glob("*.toml")):
    write(f"experiment/{path.stem}", path.read_bytes())

write("images/grey.png", bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108000000003a7e9b550000000a49444154789c636000000002000148afa471"
    "0000000049454e44ae426082"
))


# What torch.save writes, without PyTorch: two names that a pickle refers to, and the storage as a persistent id.
def _rebuild_tensor_v2(*arguments):
    raise NotImplementedError


class FloatStorage:
    pass


for module, thing in (("torch._utils", _rebuild_tensor_v2), ("torch", FloatStorage)):
    thing.__module__ = module
    sys.modules.setdefault("torch", types.ModuleType("torch"))
    sys.modules.setdefault(module, types.ModuleType(module))
    setattr(sys.modules[module], thing.__name__, thing)


class Tensor:
    def __init__(self, shape, strides):
        self.shape, self.strides = shape, strides

    def __reduce__(self):
        return _rebuild_tensor_v2, (Storage(), 0, self.shape, self.strides, False, OrderedDict())


class Storage:
    pass


class Pickler(pickle.Pickler):
    legacy = False

    def persistent_id(self, thing):
        if isinstance(thing, Storage):
            return ("storage", FloatStorage, "0", "cpu", 6) + ((None,) if self.legacy else ())
        return None


def pickled(thing, legacy=False):
    buffer = io.BytesIO()
    pickler = Pickler(buffer, protocol=2)
    pickler.legacy = legacy
    pickler.dump(thing)
    return buffer.getvalue()


weights = OrderedDict([("out.weight", Tensor((2, 3), (3, 1))), ("out.bias", Tensor((2,), (1,)))])
write("pickle/pickle", pickled(weights))
write("pickle/wrapped", pickled({"epoch": 3, "state_dict": weights, "opt": [1.5, None, True, "x"]}))
write(
    "pickle/zip.pt",
    stored({"a/data.pkl": pickled(weights), "a/byteorder": b"little", "a/data/0": floats, "a/version": b"3\n"}),
)
legacy = b"".join(pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}))
legacy += pickled(weights, legacy=True) + pickle.dumps(["0"], protocol=2) + struct.pack("<q", 6) + floats
write("pickle/legacy.pt", legacy)
write("checkpoint/safetensors", safetensors({"out.weight": ("F32", [2, 3], floats)}, {"format": "pt"}))
