"""Reading weights of other frameworks: real files of PyTorch, hostile ones, and our own."""

import base64
import pickle
import zipfile
import zlib

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
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(ValueError, match="ends before"):
        weights.read_weights(index)
    index.write_bytes(index.read_bytes()[1:])
    with pytest.raises(ValueError, match="cannot be read"):
        weights.read_weights(index)
    index.write_bytes(b"x" * 100)
    with pytest.raises(ValueError, match="no index of a TensorFlow checkpoint"):
        weights.read_weights(index)
