"""Filter banks and encoders against the golden numbers, and checkpoints in their published forms."""

import argparse
import json
import math
import re
import wave
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import VideoMAEConfig, VideoMAEModel

from model.encoders import fbank
from model.encoders.audiomae import build_audiomae, load_audiomae
from model.encoders.factory import build_audio_encoder, build_visual_encoder, prepare_audiomae
from model.encoders.fbank import filter_bank, fit_frames, normalize, read_wav
from model.encoders.frames import choose_frames, normalized, read_frames
from model.encoders.videomae import VideoMAE, load_videomae
from model.encoders.weights import file_sha256, fit_state
from tests.helpers.golden import z
from tests.helpers.shared import shared
from utils.errors import InputError, MediaError

PROJECT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def golden():
    return np.load(shared("goldens/modules.npz"))


def fill(network, prefix):
    """The goldens' rule for encoders: norms near one, tables and biases small, matrices scaled by their width."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            values = z(prefix + name, tuple(parameter.shape))
            if name in ("pos_embed", "cls_token"):
                values = 0.02 * values
            elif parameter.ndim > 1:
                values = values / math.sqrt(math.prod(parameter.shape[1:]))
            else:
                values = 1 + 0.1 * values if re.search(r"norm(\d*|_before|_after)\.weight$", name) else 0.1 * values
            parameter.copy_(torch.from_numpy(values))
    return network.eval()


def relative(ours, theirs):
    return np.linalg.norm(ours - theirs) / np.linalg.norm(theirs)


def write_wav(path, samples, rate):
    """``samples`` (channels, n) within -1..1 as 16-bit wav."""
    with wave.open(str(path), "wb") as sound:
        sound.setnchannels(len(samples))
        sound.setsampwidth(2)
        sound.setframerate(rate)
        sound.writeframes(np.ascontiguousarray((samples.T * 32767).astype("<i2")).tobytes())
    return str(path)


def write_frames(folder, count, size=(64, 48)):
    """Frames whose brightness tells their number."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(1, count + 1):
        Image.new("RGB", size, (number % 256,) * 3).save(folder / f"{number:06d}.jpg", quality=100)
    return str(folder)


@pytest.mark.parametrize("case", ["11430_10s_1ch", "11430_3s_1ch", "16000_10s_1ch", "16000_3s_1ch", "11430_11s_2ch"])
def test_filter_banks_are_kaldis(golden, case):
    rate, seconds, channels = map(int, re.findall(r"\d+", case))
    time = np.arange(rate * seconds) / rate
    noise = 0.05 * z(f"wave/{case}", (channels, rate * seconds))
    sound = 0.3 * np.sin(2 * np.pi * 440 * time) + 0.1 * np.sin(2 * np.pi * 1234.5 * time) + noise
    sound = torch.from_numpy(sound.astype(np.float32))
    bank = filter_bank((sound - sound.mean())[0], rate)
    assert len(bank) == golden[f"fbank/{case}/frames"]
    bank = fit_frames(bank).numpy()
    for name, ours in {
        "rows_::64": bank[::64],
        "row_mean": bank.mean(1),
        "col_mean": bank.mean(0),
        "col_std": bank.std(0, ddof=1),
        "min_max": np.array([bank.min(), bank.max()]),
    }.items():
        np.testing.assert_allclose(ours, golden[f"fbank/{case}/{name}"], atol=5e-4, rtol=0)
    if channels == 1:
        np.testing.assert_allclose(bank, golden[f"fbank/{case}/full_f16"], atol=1e-2, rtol=0)  # half precision


def test_filter_bank_of_silence_and_of_too_little(golden):
    bank = filter_bank(torch.zeros(3 * 11430), 11430)
    np.testing.assert_allclose(bank.unique(), golden["fbank/silence_11430_3s/value"][:1], atol=5e-4)
    with pytest.raises(MediaError, match="shorter than one window"):
        filter_bank(torch.zeros(200), 11430)


def test_only_the_first_1024_frames_are_computed():
    sound = torch.from_numpy(z("long", (16000 * 13,))).float()
    torch.testing.assert_close(filter_bank(sound, 16000, max_frames=1024), filter_bank(sound, 16000)[:1024])


def test_wav_is_the_first_channel_less_the_mean_of_all(tmp_path):
    path = write_wav(tmp_path / "a.wav", np.stack([np.full(1000, 0.5), np.full(1000, -0.25)]), 11430)
    waveform, rate = read_wav(path)
    assert rate == 11430
    np.testing.assert_allclose(waveform, 0.375, atol=1e-4)
    with pytest.raises(MediaError, match="at 11430 Hz, others are at 16000"):
        read_wav(path, 16000)
    for content in (b"", b"RIFF", (tmp_path / "a.wav").read_bytes()[:500]):
        (tmp_path / "damaged.wav").write_bytes(content)
        with pytest.raises(MediaError, match="wav"):
            read_wav(str(tmp_path / "damaged.wav"))


def test_sound_of_hours_is_refused_before_it_is_read(tmp_path, monkeypatch):
    path = write_wav(tmp_path / "a.wav", np.zeros((2, 1000)), 500)
    monkeypatch.setattr(fbank, "LARGEST_SOUND", 1999)
    with pytest.raises(MediaError, match="holds 2 s of sound"):
        read_wav(str(path))


@pytest.fixture(scope="module")
def audiomae():
    return fill(build_audiomae(), "audiomae/")


def test_audiomae_gives_the_golden_output(golden, audiomae):
    with torch.inference_mode():
        for name, bank in {
            "out": z("input/fbank", (1, 1, 1024, 128)),
            "out_input2": 3 * z("input/fbank2", (1, 1, 1024, 128)) - 6,
        }.items():
            assert relative(audiomae(torch.from_numpy(bank).float())[0].numpy(), golden[f"audiomae/{name}"]) < 1e-4


def test_audiomae_checkpoint_in_its_published_form(tmp_path, audiomae):
    state = {name: value for name, value in audiomae.state_dict().items() if not name.startswith("fc_norm")}
    state |= {"mask_token": torch.zeros(1, 1, 512), "decoder_blocks.0.norm1.weight": torch.ones(512)}
    state |= {"norm.weight": torch.ones(768), "norm.bias": torch.zeros(768)}
    torch.save({"model": state, "epoch": 32, "args": argparse.Namespace(lr=1e-3)}, tmp_path / "pretrained.pth")
    loaded, left_out = load_audiomae(str(tmp_path / "pretrained.pth"))
    assert left_out == ["norm.bias", "norm.weight"]
    assert torch.equal(loaded.blocks[11].mlp.fc2.weight, audiomae.blocks[11].mlp.fc2.weight)
    assert torch.equal(loaded.pos_embed, audiomae.pos_embed)
    assert torch.equal(loaded.fc_norm.weight, torch.ones(768)) and torch.equal(loaded.fc_norm.bias, torch.zeros(768))

    encoder = build_audio_encoder("audiomae", str(tmp_path / "pretrained.pth"), 11430)
    assert encoder.attributes["checkpoint_sha256"] == file_sha256(tmp_path / "pretrained.pth")


def test_weights_for_another_network_are_refused():
    network = torch.nn.Linear(3, 2)
    with pytest.raises(InputError, match="x.pth: no weights for bias"):
        fit_state(network, {"weight": torch.zeros(2, 3)}, "x.pth")
    with pytest.raises(InputError, match=r"x.pth: weight is \(3, 3\), expected \(2, 3\)"):
        fit_state(network, {"weight": torch.zeros(3, 3), "bias": torch.zeros(2)}, "x.pth")


class Harmful:
    def __reduce__(self):
        return (print, ("this code must not run",))


def test_checkpoints_run_no_code(tmp_path, capsys):
    torch.save({"model": Harmful()}, tmp_path / "harmful.pth")
    (tmp_path / "page.pth").write_text("<html>not found</html>")
    for name in ("harmful.pth", "page.pth"):
        with pytest.raises(InputError, match=name):
            load_audiomae(str(tmp_path / name))
    assert "must not run" not in capsys.readouterr().out


def test_normalised_filter_banks(tmp_path):
    path = write_wav(tmp_path / "a.wav", 0.1 * z("noise", (1, 16000)), 16000)
    plain, normal = prepare_audiomae(16000, False, path), prepare_audiomae(16000, True, path)
    assert plain.shape == (1, 1024, 128) and (plain[0, 98:] == 0).all()
    torch.testing.assert_close(normal, (plain + 4.2677393) / (2 * 4.5689974))
    torch.testing.assert_close(normalize(torch.tensor([-4.2677393])), torch.zeros(1))


def test_videomae_gives_the_golden_output(golden):
    network = VideoMAE(fill(VideoMAEModel(VideoMAEConfig(use_mean_pooling=False)), "videomae/"))
    assert sum(parameter.numel() for parameter in network.parameters()) == 86_227_200
    with torch.inference_mode():
        feature = network.encode(torch.from_numpy(z("input/video", (1, 16, 3, 224, 224))).float())
    assert feature.shape == (1, 8, 196, 768)
    tokens = feature.flatten(1, 2)[0].numpy()
    for ours, name in [
        (tokens[::56, ::4], "last[0,::56,::4]"),
        (tokens[783], "last_token783"),
        (tokens[1567], "last_token1567"),
        (tokens.mean(0), "mean_over_tokens"),
        (np.linalg.norm(tokens, axis=1), "token_norm"),
    ]:
        assert relative(ours, golden[f"videomae/{name}"]) < 1e-3


def small_videomae(folder, safe):
    """A published self-supervised checkpoint in small: encoder under "videomae.", old bias names, decoder."""
    config = VideoMAEConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=32, num_frames=4
    )
    config.use_mean_pooling = False
    network = fill(VideoMAEModel(config), "videomae/")
    state = {}
    for name, value in network.state_dict().items():
        state["videomae." + name.replace("query.bias", "q_bias").replace("value.bias", "v_bias")] = value
    state |= {"mask_token": torch.zeros(1, 1, 16), "decoder.head.weight": torch.zeros(8, 16)}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config.to_dict() | {"architectures": ["VideoMAEForPreTraining"]}))
    if safe:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    else:
        torch.save(state, folder / "pytorch_model.bin")
    return network


@pytest.mark.parametrize("safe", [True, False])
def test_videomae_checkpoint_in_its_published_form(tmp_path, safe):
    network = small_videomae(tmp_path / "videomae", safe)
    frames = write_frames(tmp_path / "frames", 9)
    encoder = build_visual_encoder("videomae", str(tmp_path / "videomae"))
    inputs = encoder.prepare(frames)[None]
    assert inputs.dtype == torch.uint8 and inputs.shape == (1, 4, 3, 32, 32)
    with torch.inference_mode():
        ours = encoder.network.eval()(inputs)
        theirs = network(normalized(inputs)).last_hidden_state
    assert ours.shape == (1, 2, 4, 32) == (1, *encoder.shape)
    torch.testing.assert_close(ours.flatten(1, 2), theirs)
    pooled = build_visual_encoder("videomae", str(tmp_path / "videomae"), pooled=True).network.eval()
    with torch.inference_mode():
        torch.testing.assert_close(pooled(inputs), ours.mean(2, keepdim=True))


def test_videomae_from_the_hubs_cache(tmp_path, monkeypatch):
    folder = tmp_path / "hub" / "models--MCG-NJU--videomae-base"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("0" * 40)
    (folder / "snapshots").mkdir()
    small_videomae(folder / "snapshots" / ("0" * 40), safe=False)
    # What HF_HUB_CACHE says when the hub's client is loaded.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    network, path = load_videomae()
    assert network.num_frames == 4 and path.endswith("pytorch_model.bin")


def test_videomae_without_its_weights_is_refused(tmp_path):
    small_videomae(tmp_path / "a", safe=False)
    state = torch.load(tmp_path / "a" / "pytorch_model.bin")
    del state["videomae.encoder.layer.1.attention.attention.q_bias"]
    torch.save(state, tmp_path / "a" / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"no weights for encoder.layer.1.attention.attention.query.bias"):
        build_visual_encoder("videomae", str(tmp_path / "a"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="neither model.safetensors"):
        build_visual_encoder("videomae", str(tmp_path / "empty"))


def test_choice_of_frames():
    assert choose_frames(100) == [0, 7, 13, 20, 27, 33, 40, 47, 53, 60, 67, 73, 80, 87, 93, 99]
    assert choose_frames(80)[:3] == [0, 5, 11] and choose_frames(80)[-2:] == [75, 79]
    assert choose_frames(1) == [0] * 16
    assert choose_frames(3) == [0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 2]
    for count in range(1, 300):
        chosen = choose_frames(count)
        assert len(chosen) == 16 and chosen[0] == 0 and max(chosen) == chosen[-1] == count - 1
        assert chosen == sorted(chosen)


def test_frames_are_scaled_and_cut_like_videomaes_processor(tmp_path):
    import transformers

    generator = np.random.default_rng(0)
    # The one that works with PIL, as the published pipeline did; earlier versions had no other.
    kind = getattr(transformers, "VideoMAEImageProcessorPil", None) or transformers.VideoMAEImageProcessor
    processor = kind(image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
    for size in [(320, 241), (181, 321), (640, 480), (100, 300), (224, 224)]:
        image = Image.fromarray(generator.integers(0, 256, (size[1] // 8, size[0] // 8, 3), dtype=np.uint8)).resize(
            size
        )
        folder = tmp_path / f"{size}"
        folder.mkdir()
        image.save(folder / "000001.jpg")
        ours = normalized(read_frames(str(folder), 16, 224))
        with Image.open(folder / "000001.jpg") as saved:
            theirs = processor([saved], return_tensors="pt")["pixel_values"][0]
        assert (ours[:1] - theirs).abs().max() < 1e-4, size


def test_frames_that_cannot_be_read(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(MediaError, match="empty"):
        read_frames(str(tmp_path / "a"), 16, 64)
    (tmp_path / "a" / "000001.jpg").write_bytes(b"\xff\xd8\xff nonsense")
    with pytest.raises(MediaError, match="000001.jpg is unreadable"):
        read_frames(str(tmp_path / "a"), 16, 64)
    with pytest.raises(MediaError, match="too long and narrow"):
        read_frames(write_frames(tmp_path / "b", 1, (3000, 2)), 16, 64)


@pytest.mark.parametrize(
    ("model", "tokens", "dims"),
    [("vit_tiny_patch16_224", 196, 192), ("resnet10t", 36, 512), ("swin_tiny_patch4_window7_224", 49, 768)],
)
def test_any_image_model_of_timm(tmp_path, model, tokens, dims):
    network = timm.create_model(model, num_classes=5)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    frames = write_frames(tmp_path / "frames", 20)
    for pooled, positions in ((False, tokens), (True, 1)):
        encoder = build_visual_encoder(f"timm/{model}", str(tmp_path / "weights.pth"), pooled)
        with torch.inference_mode():
            feature = encoder.network.eval()(encoder.prepare(frames)[None])
        assert feature.shape == (1, 8, positions, dims) == (1, *encoder.shape) and feature.isfinite().all()
        assert encoder.left_out and all(name.startswith(("head", "fc")) for name in encoder.left_out)
    with pytest.raises(InputError, match="no such model"):
        build_visual_encoder("timm/no_such_model")


def test_encoders_without_weights(tmp_path):
    patches = build_visual_encoder("patches")
    with torch.inference_mode():
        feature = patches.network(patches.prepare(write_frames(tmp_path / "frames", 32))[None])
    assert feature.shape == (1, 8, 4, 256) == (1, *patches.shape)
    assert build_visual_encoder("patches", pooled=True).shape == (8, 1, 256)
    levels = feature.mean((0, 2, 3))
    assert (levels.diff() > 0).all()  # brightness rises from frame to frame

    logmel = build_audio_encoder("logmel", sample_rate=16000)
    time = np.arange(32000) / 16000
    chirp = np.sin(2 * np.pi * (200 + 900 * time) * time)[None]
    feature = logmel.prepare(write_wav(tmp_path / "a.wav", chirp, 16000)).view(64, 12)
    peaks = feature.argmax(0)
    assert logmel.shape == (768,) and feature.shape == (64, 12) and (peaks.diff() > 0).all()
    for build, flag in ((build_audio_encoder, "audio"), (build_visual_encoder, "visual")):
        with pytest.raises(InputError, match=f"--{flag}_encoder nonsense"):
            build("nonsense")
