"""Reading weights of other frameworks: real files of PyTorch, hostile ones, and our own."""

import base64
import json
import pickle
import struct
import time
import zipfile
import zlib
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from jaxgen import weights

# Written by torch.save of PyTorch 2.13, in its two formats, deflated: {"step": 3, "net": OrderedDict(a.weight: w.t(),
# a.bias: w[1], h: [1.5, -2] in bfloat16), "note": "x"} with w = arange(6.).reshape(2, 3).
ZIP = (
    "c-oy*J#W)M7{1u4lel~pQkwEnKBgc+YNv^t3{@)&dGSD+3MtBBxrvD_+_<lEX$ulkC6r2RfEYkXh@Zd)Y@OI)V1cazV&X4wcTR(yrY&&F"
    "#q#Bz=Y8@%&s|05;|L{_=)e$B25rqYO>E}Y@4K3sM)eV6n|lN(TO%B(gROOl>3oeRFKr70*JyaIYc;UrwL9V+ziIha^S0B#BJek=5YN_V"
    "Su?k3IV~H*SOa^0!_FC9?6@7#@U7LZ<2DU!wL6|~Y~)1{ve{aKmGXSEWkDi<h??t}cqLdAAz6!&JrbmtlE!)$L|wozzN{mi*SQ@yp%a-q"
    "aPo;wb)3R*x(a7%0u!_9m>rm~NhLdBC+(EYuxFPElJCJeJ=TMCfSbf{z6w*Um<^c#(ifyMMY1x`G|jfjaDnh~7%oyRTn{c$zRLmM42COJ"
    "xY}jSY<t*(YYemn*Soojo=DD%FF)F3h0e;MzD=NM;#=;X=dYRA*s%N#X}_jUj<l~XQ{wl(zCWgw=scV_jTR_zzxRgeI<5Aa)yA4y9?ktX"
    "Ln%-Ji<|J1BPF;a1&pIHB4G6awmh08O^u<t>tO6!l%uz>H%%=Rj^s$9ct6#%lBVvjZZDFrCGsJ2o6NUMlyU0mk7pV3L*^L9{63?sskwh_"
    "#qJ{7rL_{v^*!o){K#4<)`5Yi<p0l!6#e;4>+bRW%b*f9kV)-WzC#>*Xwt)JI89A0{FjMRQITb-RLsvQa#@*|iurOunlBYgO1>n`6$(nJ"
    "ES2(-LRG$c_xe+o=*TjaF^+YwuQQx&@qqF__s}pd9Nmcs=0gk}JO{(@aPZR6W5l76X&+_?$8J2r@SHIW;yMfrrz>jKR}Kv_I*bbEB#O%N"
    "1C%_B3g;sgLA_w8L%I_-EE9o!VX)Crs_24nv%hbKzZE(t(dV~V-`sfcBshAvqZJ`|4{oC|A;2Wr{$THK^9WDz"
)

LEGACY = (
    "c-n1|%Wl*#6owOLnkj~s(sC=;wrqyYXgY;ayK03{Hx`!;8*fmQW~{MM6wk3w%0;R)o2h_jV8N2d=<DzZNGv!>pkgsrY$Yeh-~T0^vadY<"
    "{q6AA#=9S{*Sk~p;%7wbDFhw45(L4-S+tqWlN05<u?2+GAeZP(ZV+>osA6Q&0@!ECsfZsZD)Hu%@(`Uut0Nbv=(TkS3xdgro=kxdi<WFv"
    "3|ow$Em~#yFSDw8R1*kARJRujfn{Wns|-oN^H*-9oEkkh8FGjo5386(>P)-ul^JVF%Fwz@casuL?s?+WacS~Vf~xS=B`19jai=5Ob(D4K"
    "SV6nl!Vhzs;+v+(VNotq&)&}7lkHxAr{ANyK3uA`vPlVC#4iypABjLjf}Oz?LDFZi^hH-z%LrG8up;AH?bxIqu4&5EZ9SK}svF+g5z(R<"
    "To>UCZZxc$2)BlCTZXhv!+L}HtNg5X-X2_7-?^X@c<{8>8|?1FU7|Ch->Yod4DMI-2Mzrp!p0Cb%lhXR78PvONgv=*buMqKbD4t-=Y0iJ"
    "T^2Osd_Opkga5~LpOyo<XijN<KllTFexuU"
)


@pytest.mark.parametrize("text", [ZIP, LEGACY], ids=["zip", "legacy"])
def test_a_file_of_pytorch_is_read(tmp_path, text):
    path = tmp_path / "weights.pt"
    path.write_bytes(zlib.decompress(base64.b85decode(text)))
    found = weights.read_weights(path)
    assert list(found) == ["step", "net.a.weight", "net.a.bias", "net.h"]
    assert found["step"] == 3 and found["step"].shape == ()
    np.testing.assert_array_equal(found["net.a.weight"], [[0, 3], [1, 4], [2, 5]])
    np.testing.assert_array_equal(found["net.a.bias"], [3, 4, 5])
    assert found["net.a.bias"].dtype == np.float32 and found["net.h"].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(found["net.h"].astype(np.float32), [1.5, -2])


class Call:
    """Pickled, it calls a function when it is read."""

    def __init__(self, function, *args):
        self.reduced = function, args

    def __reduce__(self):
        return self.reduced


def as_torch_zip(path, tree, storages=None):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", tree if isinstance(tree, bytes) else pickle.dumps(tree, 2))
        for key, data in (storages or {}).items():
            archive.writestr(f"archive/data/{key}", data)


@pytest.mark.parametrize("suffix", ["pt", "npz", "npy"])
def test_a_call_is_refused_by_name_and_not_made(tmp_path, suffix):
    path, witness = tmp_path / f"weights.{suffix}", tmp_path / "called"
    hostile = {"w": Call(open, str(witness), "w")}
    if suffix == "pt":
        as_torch_zip(path, hostile)
    elif suffix == "npz":
        np.savez(path, w=np.array([hostile], object))
    else:
        np.save(path, np.array([hostile], object))
    with pytest.raises(ValueError, match="pickle" if suffix == "npz" else r"io\.open, which weights do not need"):
        weights.read_weights(path)
    assert not witness.exists()


def test_eval_is_refused_in_the_legacy_format(tmp_path):
    path = tmp_path / "weights.pt"
    path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(Call(eval, "1 / 0"), 2))
    with pytest.raises(weights.UnsafeWeightsError, match=r"eval"):
        weights.read_weights(path)


def tensor_pickle(offset, size, stride, count):
    """The pickle of {"w": tensor}, opcode by opcode."""
    numbers = lambda values: b"(" + b"".join(b"I%d\n" % v for v in values) + b"t"
    storage = b"(Vstorage\nctorch\nFloatStorage\nV0\nVcpu\nI%d\ntQ" % count
    arguments = storage + b"I%d\n" % offset + numbers(size) + numbers(stride) + b"I00\nccollections\nOrderedDict\n)R"
    return b"\x80\x02}Vw\nctorch._utils\n_rebuild_tensor_v2\n(" + arguments + b"tRs."


def test_a_tensor_outside_of_its_numbers_is_refused(tmp_path):
    path = tmp_path / "weights.pt"
    data = np.arange(6, dtype=np.float32)
    as_torch_zip(path, tensor_pickle(1, (2, 2), (1, 3), 6), {"0": data.tobytes()})
    np.testing.assert_array_equal(weights.read_weights(path)["w"], [[1, 4], [2, 5]])
    for offset, size, stride in ((2, (2, 2), (1, 3)), (0, (2, 3), (4, 1)), (-1, (2,), (1,)), (5, (2,), (-1,))):
        as_torch_zip(path, tensor_pickle(offset, size, stride, 6), {"0": data.tobytes()})
        with pytest.raises(ValueError, match="leaves its 6 numbers"):
            weights.read_weights(path)
    as_torch_zip(path, tensor_pickle(0, (2,), (1,), 7), {"0": data.tobytes()})
    with pytest.raises(ValueError, match="shorter than declared"):
        weights.read_weights(path)


def test_numpys_files_are_read(tmp_path):
    np.savez(tmp_path / "w.npz", **{"a/kernel": np.eye(2), "b": np.arange(3)})
    found = weights.read_weights(tmp_path / "w.npz")
    assert set(found) == {"a/kernel", "b"}
    np.testing.assert_array_equal(found["a/kernel"], np.eye(2))
    # A list of arrays, as Keras' get_weights, saved by np.save.
    arrays = np.empty(3, object)
    arrays[:] = [np.arange(6.0).reshape(2, 3), np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.float32(2.5)]
    np.save(tmp_path / "w.npy", arrays)
    found = weights.read_weights(tmp_path / "w.npy")
    np.testing.assert_array_equal(found["0"], arrays[0])
    np.testing.assert_array_equal(found["1"], arrays[1])
    assert found["2"] == 2.5 and set(found) == {"0", "1", "2"}


@pytest.mark.parametrize("suffix", [".npz", ".safetensors"])
def test_what_is_written_is_read(tmp_path, suffix):
    arrays = {
        "a.b": np.arange(6, dtype=np.float32).reshape(2, 3),
        "file": np.arange(4.0)[::2],
        "odd": np.array([True, False, True]),
        "step": np.asarray(7),
        "empty": np.zeros((0, 3), np.float16),
        "columns first": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    }
    path = tmp_path / f"weights{suffix}"
    weights.write_weights(path, arrays)
    found = weights.read_weights(path)
    assert set(found) == set(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array, strict=True)


def test_safetensors_is_the_published_format(tmp_path):
    path = tmp_path / "w.safetensors"
    header = b'{"__metadata__":{"k":"v"},"w":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes.fromhex("c03f00c0"))
    np.testing.assert_array_equal(weights.read_weights(path)["w"].astype(np.float32), [1.5, -2])
    header = header.replace(b"[0,4]", b"[0,8]")
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes.fromhex("c03f00c0"))
    with pytest.raises(ValueError, match="invalid shape, data type, or offset"):
        weights.read_weights(path)
    weights.write_weights(path, {"w": np.asarray([1.5, -2], ml_dtypes.bfloat16)})
    assert path.read_bytes().endswith(bytes.fromhex("c03f00c0"))


def test_other_files_are_refused_with_a_reason(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file .*expected weights as"):
        weights.read_weights(tmp_path / "missing.pt")
    path = tmp_path / "w.pt"
    path.write_bytes(b"hello, world")
    with pytest.raises(ValueError, match="begins with b.hello, world.; expected a file of PyTorch"):
        weights.read_weights(path)
    path.write_bytes(pickle.dumps({"a": 1}, 2))
    with pytest.raises(ValueError, match="a pickle, but not one of torch.save"):
        weights.read_weights(path)
    path.write_bytes(zlib.decompress(base64.b85decode(LEGACY))[:-4])
    with pytest.raises(ValueError, match="middle of its numbers"):
        weights.read_weights(path)
    path.write_bytes(zlib.decompress(base64.b85decode(LEGACY)) + b"x")
    with pytest.raises(ValueError, match="1 bytes follow its numbers"):
        weights.read_weights(path)
    path.write_bytes(zlib.decompress(base64.b85decode(ZIP))[:-400])
    with pytest.raises(ValueError, match="cannot be read"):
        weights.read_weights(path)
    as_torch_zip(path, {"a.b": 1, "a": {"b": 2}})
    with pytest.raises(ValueError, match="two entries named 'a.b'"):
        weights.read_weights(path)
    with pytest.raises(ValueError, match="expected .npz or .safetensors"):
        weights.write_weights(tmp_path / "w.pt", {})
    with pytest.raises(ValueError, match="complex128"):
        weights.write_weights(tmp_path / "w.safetensors", {"w": np.ones(2, complex)})
    with pytest.raises(ValueError, match="bfloat16"):
        weights.write_weights(tmp_path / "w.npz", {"w": np.ones(2, ml_dtypes.bfloat16)})


def opcode_text(text):
    return b"X" + len(text).to_bytes(4, "little") + text.encode()


def numbers(values):
    return b"(" + b"".join(b"\x8a\x08" + int(v).to_bytes(8, "little", signed=True) for v in values) + b"t"


def storage(kind="FloatStorage", module="torch", count=1, key="0"):
    named = opcode_text("storage") + f"c{module}\n{kind}\n".encode() + opcode_text(key) + opcode_text("cpu")
    return b"(" + named + b"J" + count.to_bytes(4, "little", signed=True) + b"tQ"


def tensor(numbers_of, offset=0, size=(1,), stride=(1,), function="_rebuild_tensor_v2", rest=b""):
    head = f"ctorch._utils\n{function}\n(".encode() + numbers_of + b"J" + offset.to_bytes(4, "little", signed=True)
    return head + numbers(size) + numbers(stride) + b"\x89ccollections\nOrderedDict\n)R" + rest + b"tR"


def program(*entries):
    return b"\x80\x02}" + b"".join(opcode_text(name) + value + b"s" for name, value in entries) + b"."


def test_a_storage_is_flat_and_nothing_else(tmp_path):
    """A tensor of a tensor could leave the memory of its storage: it ended the process, or returned foreign memory."""
    path = tmp_path / "w.pt"
    inner = tensor(storage(), 0, (1 << 40,), (0,))
    for wrong in (inner, opcode_text("text"), b"]", b"ctorch\nfloat32\n"):
        as_torch_zip(path, program(("w", tensor(wrong, 1 << 20, (4,), (1,)))), {"0": bytes(4)})
        with pytest.raises(ValueError, match="expected a storage"):
            weights.read_weights(path)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (tensor(storage(), 0, (1 << 20, 1 << 15), (0, 0)), "much more data than its size"),
        (tensor(storage(), 0, (1 << 47, 1 << 47), (1, 1)), "leaves its 1 numbers"),
        (tensor(storage(), 1, (1,), (1,)), "leaves its 1 numbers"),
        (tensor(storage(), -1, (1,), (1,)), "leaves its 1 numbers"),
        (tensor(storage(), 0, (1,), (-1,)), "leaves its 1 numbers"),
        (tensor(storage(), 0, (1, 1), (1,)), "leaves its 1 numbers"),
        (tensor(storage(count=2), 0, (2,), (1,)), "shorter than declared"),
        (tensor(storage(count=-1), 0, (1,), (1,)), "unknown kind"),
        (tensor(storage("DoubleStorage"), 0, (1,), (1,)), "shorter than declared"),
        (tensor(storage(key="7"), 0, (1,), (1,)), "no entry 'archive/data/7'"),
        (tensor(storage("Tensor"), 0, (1,), (1,)), "unknown kind"),
        (
            b"ctorch\nBFloat16Storage\n(K\x03U\x01>NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\0tb",
            "sets attributes of a Name",
        ),
        (tensor(storage(), 0, (1,), (1,)) + b"}b", "sets attributes of a Tensor"),
        (b"ctorch._tensor\n_rebuild_from_type_v2\n(ctorch\ndevice\nctorch\nTensor\n)}tR", "made in an unknown way"),
    ],
)
def test_tensors_and_storages_that_lie_are_refused(tmp_path, entry, message):
    path = tmp_path / "w.pt"
    before = np.dtype(ml_dtypes.bfloat16).name, np.array(1, ml_dtypes.bfloat16).dtype.byteorder
    as_torch_zip(path, program(("w", entry)), {"0": bytes(4)})
    with pytest.raises(ValueError, match=message):
        weights.read_weights(path)
    assert before == (np.dtype(ml_dtypes.bfloat16).name, np.array(1, ml_dtypes.bfloat16).dtype.byteorder)


def test_shared_and_nested_containers_end(tmp_path):
    path = tmp_path / "w.pt"
    pairs = b"".join(b"](h%ch%ceq%c" % (i, i, i + 1) for i in range(60))
    for body, message in {
        b"(]q\0" + pairs + b"l": "more objects than",
        b"]q\0h\0a": "nested more than 64 deep",
        b"]" * 1000 + b"a" * 999: "nested more than 64 deep",
    }.items():
        as_torch_zip(path, b"\x80\x02" + body + b".")
        start = time.process_time()
        with pytest.raises(ValueError, match=message):
            weights.read_weights(path)
        assert time.process_time() - start < 2


def test_many_views_of_large_numbers_are_refused_before_they_are_read(tmp_path):
    """Each costs some bytes of the file, and a pass over all numbers where NaN is searched."""
    count = 1 << 20
    same = tensor(storage(count=count), 0, (count,), (1,)) + b"q\0" + b"".join(
        b"s" + opcode_text(f"same{i}") + b"h\0" for i in range(2000)
    )  # fmt: skip
    for entries in (
        [("w", same)],
        [(f"w{i}", tensor(storage(count=count), i, (count - i,), (1,))) for i in range(500)],
    ):
        as_torch_zip(tmp_path / "w.pt", program(*entries), {"0": bytes(4 * count)})
        start = time.process_time()
        if len(entries) == 1:
            assert len(weights.read_weights(tmp_path / "w.pt")) == 2001
        else:
            with pytest.raises(ValueError, match="much more data than its size"):
                weights.read_weights(tmp_path / "w.pt")
        assert time.process_time() - start < 2


def test_tensors_that_share_numbers_are_read(tmp_path):
    path = tmp_path / "w.pt"
    data = np.arange(6, dtype=np.float32)
    part = lambda *where: tensor(storage(count=6), *where)
    entries = {
        "whole": part(0, (2, 3), (3, 1)), "turned": part(0, (3, 2), (1, 3)), "row": part(3, (3,), (1,)),
        "repeated": part(5, (2, 2), (0, 0)), "scalar": part(4, (), ()), "empty": part(0, (0, 4), (4, 1)),
    }  # fmt: skip
    as_torch_zip(path, program(*entries.items()), {"0": data.tobytes()})
    found, whole = weights.read_weights(path), data.reshape(2, 3)
    expected = {"whole": whole, "turned": whole.T, "row": whole[1], "repeated": np.full((2, 2), 5), "scalar": 4.0}
    for name, array in (expected | {"empty": np.zeros((0, 4))}).items():
        np.testing.assert_array_equal(found[name], np.asarray(array, np.float32), strict=True)


V3 = "_rebuild_tensor_v3"


@pytest.mark.parametrize(
    ("dtype", "ours"),
    [
        ("float8_e4m3fn", ml_dtypes.float8_e4m3fn), ("float8_e5m2", ml_dtypes.float8_e5m2), ("uint16", np.uint16),
        ("uint64", np.uint64), ("bfloat16", ml_dtypes.bfloat16), ("complex64", np.complex64),
    ],
)  # fmt: skip
def test_dtypes_are_read_by_name(tmp_path, dtype, ours):
    values = np.array([1, 2, 0]).astype(ours)
    kept = storage("UntypedStorage", "torch.storage", values.nbytes)
    as_torch_zip(
        tmp_path / "w.pt",
        program(("w", tensor(kept, 0, (3,), (1,), V3, f"ctorch\n{dtype}\nN".encode()))),
        {"0": values.tobytes()},
    )
    np.testing.assert_array_equal(weights.read_weights(tmp_path / "w.pt")["w"], values, strict=True)
    if dtype != "uint64":
        weights.write_weights(tmp_path / "w.safetensors", {"w": values})
        np.testing.assert_array_equal(weights.read_weights(tmp_path / "w.safetensors")["w"], values, strict=True)


def test_tensors_with_attributes_and_other_containers_are_read(tmp_path):
    """As torch.save writes them: an attribute on a tensor and a parameter, Counter, defaultdict, set, Namespace."""
    path, kept = tmp_path / "w.pt", storage(count=3)
    arguments = kept + b"K\0" + numbers((3,)) + numbers((1,)) + b"\x89ccollections\nOrderedDict\n)R"
    typed = b"ctorch._utils\n_rebuild_tensor_v2\nctorch\nTensor\n(" + arguments + b"t}" + opcode_text("note") + b"K\1s"
    whole = tensor(kept, 0, (3,), (1,))
    entries = {
        "tensor": b"ctorch._tensor\n_rebuild_from_type_v2\n(" + typed + b"tR",
        "parameter": b"ctorch._utils\n_rebuild_parameter\n(" + whole + b"\x88ccollections\nOrderedDict\n)RtR",
        "counter": b"ccollections\nCounter\n(}" + opcode_text("a") + b"K\5stR",
        "default": b"ccollections\ndefaultdict\n(c__builtin__\nlist\ntR" + opcode_text("a") + b"K\6s",
        "set": b"c__builtin__\nset\n](K\7e\x85R",
        "args": b"cargparse\nNamespace\n)\x81}" + opcode_text("lr") + b"G" + struct.pack(">d", 0.5) + b"sb",
        "size": b"ctorch\nSize\n(K\2K\3t\x85R",
        "large": b"\x8a\x09" + (2**70).to_bytes(9, "little"),
        "lost": b"G" + struct.pack(">d", float("nan")),
    }
    as_torch_zip(path, program(*entries.items()), {"0": np.arange(3, dtype=np.float32).tobytes()})
    found = weights.read_weights(path)
    for name in ("tensor", "parameter"):
        np.testing.assert_array_equal(found.pop(name), np.arange(3, dtype=np.float32), strict=True)
    assert np.isnan(found.pop("lost"))
    assert found == {"counter.a": 5, "default.a": 6, "set.0": 7, "args.lr": 0.5, "size.0": 2, "size.1": 3}


def test_nan_and_odd_truth_values_are_refused_by_name(tmp_path):
    for dtype in (np.float32, np.float16, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, np.complex64):
        array = np.ones((3, 4)).astype(dtype)
        array[2, 1] = np.nan
        weights.write_weights(tmp_path / "w.safetensors", {"fine": np.ones(2), "a.b": array})
        with pytest.raises(ValueError, match=r"w\.safetensors cannot be read: 'a\.b' holds NaN"):
            weights.read_weights(tmp_path / "w.safetensors")
    weights.write_weights(tmp_path / "w.npz", {"mask": np.array([-np.inf, 0])})
    assert weights.read_weights(tmp_path / "w.npz")["mask"][0] == -np.inf
    as_torch_zip(tmp_path / "w.pt", program(("w", tensor(storage("BoolStorage")))), {"0": b"\2"})
    with pytest.raises(ValueError, match="'w' is of truth values"):
        weights.read_weights(tmp_path / "w.pt")


@pytest.mark.parametrize(
    ("header", "size", "message"),
    [
        ({"a": ("F32", [1], 0, 4), "b": ("F32", [1], 2, 6)}, 6, "damaged safetensors"),
        ({"a": ("F32", [1], 0, 4), "b": ("F32", [1], 8, 12)}, 12, "damaged safetensors"),
        ({"a": ("F32", [1], 0, 4)}, 8, "damaged safetensors"),
        ({"a": ("F32", [2**62, 4], 0, 4)}, 4, "damaged safetensors"),
        ({"a": ("F4", [2], 0, 1)}, 1, "F4"),
        ({"a": ("F32", [-1], 0, 4)}, 4, "damaged safetensors"),
        (
            b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}',
            1,
            "",
        ),
        (b'{"a":' * 100_000, 0, "damaged safetensors"),
        (b"{", 0, "damaged safetensors"),
    ],
)
def test_safetensors_that_lie_are_refused(tmp_path, header, size, message):
    if isinstance(header, dict):
        entry = lambda dtype, shape, *offsets: {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        header = json.dumps({name: entry(*values) for name, values in header.items()}).encode()
    path = tmp_path / "w.safetensors"
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(size))
    with pytest.raises(ValueError, match=rf"w\.safetensors cannot be read: .*{message}"):
        weights.read_weights(path)
    path.write_bytes((1 << 62).to_bytes(8, "little") + header)
    with pytest.raises(ValueError, match=r"declared to have 4,611,686,018,427,387,904 bytes"):
        weights.read_weights(path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS pointer"),
        (b"<!DOCTYPE html>\n<html>", "web page"),
        (b'<?xml version="1.0"?><Error>', "XML"),
        (b"", "empty file"),
        (b"\x1f\x8b" + bytes(20), "gzip file: unpack it first"),
        (b"PK\3\4" + bytes(2000), "no end: the file is incomplete after 2,004 bytes"),
        (b"\x89HDF\r\n\x1a\n", "HDF5"),
    ],
)
@pytest.mark.parametrize("suffix", ["pt", "safetensors", "npz", "npy"])
def test_a_wrong_file_is_named_for_what_it_is(tmp_path, data, message, suffix):
    path = tmp_path / f"w.{suffix}"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"w\.{suffix} cannot be read: .*{message}"):
        weights.read_weights(path)


def test_an_archive_of_a_program_is_named(tmp_path):
    with zipfile.ZipFile(tmp_path / "w.pt", "w") as archive:
        archive.writestr("m/data.pkl", b"\x80\x02}.")
        archive.writestr("m/code/__torch__.py", "")
        archive.writestr("m/constants.pkl", b"")
    with pytest.raises(ValueError, match="TorchScript.*state_dict"):
        weights.read_weights(tmp_path / "w.pt")


def test_a_packed_archive_is_read_and_a_bomb_is_not(tmp_path):
    path = tmp_path / "w.pt"
    for count, fits in ((6, True), ((1 << 24) + 1, False)):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a/data.pkl", program(("w", tensor(storage(count=count), 0, (count,), (1,)))))
            archive.writestr("a/data/0", bytes(4 * count))
        if fits:
            np.testing.assert_array_equal(weights.read_weights(path)["w"], np.zeros(6, np.float32))
        else:
            with pytest.raises(ValueError, match="declared to unpack to 67,108,868"):
                weights.read_weights(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"0" * (1 << 26))
    with pytest.raises(ValueError, match="67,108,864 bytes; expected at most 33,554,432"):
        weights.read_weights(path)


def test_a_dict_of_numpy_is_read(tmp_path):
    tree: Any = {"x": np.arange(3.0), "y": {"z": np.arange(2)}}
    np.save(tmp_path / "w.npy", tree)
    found = weights.read_weights(tmp_path / "w.npy")
    assert list(found) == ["x", "y.z"]
    np.testing.assert_array_equal(found["x"], np.arange(3.0))


# Written by tf.compat.v1.train.Saver of TensorFlow 2.21, deflated: model/conv_in/W: arange(6.).reshape(2, 3),
# model/conv_in/b: [1.5, -2] in bfloat16, global_step: int64 790000.
TF_INDEX = (
    "c-muNVB=tvV&Y(A;O0)x$xlkmi7zfmE#Tl3V$k3)oqJzXgn?f)H$NpcM?X0~uPi<@Pd}W4QHVo`iGvA<nH4xRBuo$7wiV}N6inja6Jh~L"
    "C@5&KnCf|jePRFtMi5al!+;OYIq+%W1_nl^Jccy5kbXeSjBJhyuo^-j{C7jQN~!y80Cr^_vH"
)
TF_DATA = "c-s5G%fo;G4fa670f>OO0f-kk9I$6N002=d1?T"


def test_a_checkpoint_of_tensorflow_is_read(tmp_path):
    index, data = tmp_path / "model.ckpt-790000.index", tmp_path / "model.ckpt-790000.data-00000-of-00001"
    index.write_bytes(zlib.decompress(base64.b85decode(TF_INDEX)))
    with pytest.raises(FileNotFoundError, match="data-00000-of-00001"):
        weights.read_weights(index)
    data.write_bytes(zlib.decompress(base64.b85decode(TF_DATA)))
    found = weights.read_weights(index)
    assert set(found) == {"model/conv_in/W", "model/conv_in/b", "global_step"}
    np.testing.assert_array_equal(found["model/conv_in/W"], np.arange(6, dtype=np.float32).reshape(2, 3), strict=True)
    assert found["model/conv_in/b"].dtype == ml_dtypes.bfloat16
    np.testing.assert_array_equal(found["model/conv_in/b"].astype(np.float32), [1.5, -2])
    assert found["global_step"] == 790000 and found["global_step"].dtype == np.int64
    whole = data.read_bytes()
    data.write_bytes(whole[:-1])
    with pytest.raises(ValueError, match="ends before"):
        weights.read_weights(index)
    data.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(ValueError, match="the checksum of .* is another one"):
        weights.read_weights(index)
    table = index.read_bytes()
    for at in range(len(table) - 48):  # every byte of the blocks; the footer refers to them
        index.write_bytes(table[:at] + bytes([table[at] ^ 1]) + table[at + 1 :])
        with pytest.raises(ValueError, match="cannot be read: .*damaged"):
            weights.read_weights(index)
    index.write_bytes(table)
    index.write_bytes(index.read_bytes()[1:])
    with pytest.raises(ValueError, match="cannot be read"):
        weights.read_weights(index)
    index.write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match="no index of a TensorFlow checkpoint"):
        weights.read_weights(index)


def test_safetensors_are_read_whatever_the_length_of_their_header(tmp_path):
    """A length of 128 begins with the byte of a pickle, one of 0x4B50 with those of a zip archive."""
    path = tmp_path / "w.safetensors"
    for length in (128, 0x4B50, 147):
        header = b'{"w":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}}'.ljust(length)
        path.write_bytes(length.to_bytes(8, "little") + header + b"\1\2")
        assert weights.read_weights(path)["w"].tolist() == [1, 2]
