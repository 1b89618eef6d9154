"""Network outputs, losses and gradients against numbers from the published implementation."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from dataloader import Batch
from model.heads import ProxyHead
from tests.helpers import golden
from tests.helpers.shared import shared
from utils import losses
from utils.datasets import MODALITIES
from utils.exemplars import class_mean, herd

DTYPES = {"f32": torch.float32, "f64": torch.float64}
TOLERANCE = 1e-5
RENAMED = {"classifier.old": "classifier.fc1.weight", "classifier.new": "classifier.fc2.weight"}
RENAMED["classifier.scale"] = "classifier.factor"


@pytest.fixture(scope="module")
def goldens():
    return np.load(shared("goldens", "modules.npz"))


def close(ours, theirs, tolerance=TOLERANCE):
    ours = ours.detach().numpy() if isinstance(ours, torch.Tensor) else np.asarray(ours)
    scale = max(float(np.abs(theirs).max()), 1e-12)
    assert np.abs(ours - theirs).max() <= tolerance * scale, (ours, theirs)


def check_loss(goldens, key, value, network):
    """The value, and of each parameter's gradient the length and first entries."""
    close(value, goldens[f"{key}/value"])
    network.zero_grad()
    value.backward()
    for name, parameter in network.named_parameters():
        theirs = goldens[f"{key}/gradnorm/{RENAMED.get(name, name)}"]
        if name == "classifier.scale":
            # Its gradient is the small difference of large terms, known to a few digits only.
            np.testing.assert_allclose(0 if parameter.grad is None else parameter.grad.norm(), theirs, atol=1e-4)
        elif not parameter.requires_grad or theirs == 0:
            assert parameter.grad is None or not parameter.grad.any()
        else:
            close(parameter.grad.norm(), theirs)
            head = goldens[f"{key}/gradhead/{RENAMED.get(name, name)}"]
            largest = parameter.grad.abs().max()
            np.testing.assert_allclose(parameter.grad.flatten()[:6], head, atol=TOLERANCE * largest, rtol=TOLERANCE)


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("modality", MODALITIES)
def test_network(goldens, precision, modality):
    learner = golden.learner("ssil", modality, DTYPES[precision])
    batch = golden.batch(DTYPES[precision])
    out, old = learner.forward(learner.network, batch), learner.cached_outputs(batch)
    expected = {
        "logits": out["logits"],
        "old_logits": old["logits"],
        "features_norm": F.normalize(out["feature"], dim=1),
    }
    if modality == "audio-visual":
        attended = learner.network.attention(batch.audio, batch.visual.tensor())
        spatial, temporal = attended.spatial_scores.softmax(2), attended.temporal_scores.softmax(1)
        expected |= {
            "features_raw": out["feature"],
            "audio_feature_norm": F.normalize(out["audio"], dim=1),
            "visual_feature_norm": F.normalize(out["visual"], dim=1),
            "spatial_attn[0]": spatial[0],
            "temporal_attn[:4]": temporal[:4],
            "spatial_attn_sqsum_per_video": spatial.square().sum((1, 2, 3)),
            "temporal_attn_sqsum_per_video": temporal.square().sum((1, 2)),
            "visual_pooled[:4]": out["pooled"][:4],
        }
    for name, ours in expected.items():
        close(ours, goldens[f"{precision}/{modality}/{name}"])


METHODS = [("ssil", "SSIL_total"), ("lwf", "LwF_total"), ("icarl", "iCaRL_total"), ("afc", "AFC_total")]


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize(("method", "key"), METHODS)
def test_method_total(goldens, precision, modality, method, key):
    learner = golden.learner(method, modality, DTYPES[precision])
    batch = golden.batch(DTYPES[precision])
    if method == "lwf":
        batch = golden.batch(DTYPES[precision], num_replayed=0)
    total = sum(learner.losses(batch, golden.TASK).values())
    check_loss(goldens, f"{precision}/{modality}/{key}", total, learner.network)


TERMS = {
    ("ssil", "cross_entropy"): ("SSIL_CE", 1),
    ("ssil", "distillation"): ("SSIL_KD", 1),
    ("lwf", "distillation"): ("LwF_KD", 1),
    ("icarl", "cross_entropy"): ("CE_all", 1),
    ("icarl", "distillation"): ("iCaRL_distill", 1),
    ("afc", "nca"): ("NCA", 1),
    ("afc", "feature_distillation"): ("AFC_loss_disc", 0.5 * 3**0.5),
}


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("modality", MODALITIES)
@pytest.mark.parametrize(("method", "term"), TERMS)
def test_method_terms(goldens, precision, modality, method, term):
    learner = golden.learner(method, modality, DTYPES[precision])
    batch = golden.batch(DTYPES[precision], num_replayed=0 if method == "lwf" else golden.REPLAYED)
    key, weight = TERMS[method, term]
    value = learner.losses(batch, golden.TASK)[term] / weight
    check_loss(goldens, f"{precision}/{modality}/{key}", value, learner.network)


AVCIL_TERMS = {
    "cross_entropy": ("ours_CE", 1),
    "distillation": ("ours_KD", 1),
    "I-AVSC": ("ours_instance_contrastive", 0.5),
    "C-AVSC": ("ours_class_contrastive", 1),
    "VAD_spatial": ("ours_VAD_spatial_KL", 0.5),
    "VAD_temporal": ("ours_VAD_temporal_KL", 0.5),
}


@pytest.mark.parametrize("precision", DTYPES)
def test_avcil_terms(goldens, precision):
    learner = golden.learner("avcil", "audio-visual", DTYPES[precision])
    batch = golden.batch(DTYPES[precision])
    assert learner.losses(batch, golden.TASK).keys() == AVCIL_TERMS.keys()
    for term, (key, weight) in AVCIL_TERMS.items():
        value = learner.losses(batch, golden.TASK)[term] / weight
        check_loss(goldens, f"{precision}/audio-visual/{key}", value, learner.network)


AVCIL_FORMS = {
    "class_contrastive_paper_eq7_T0.05": ("C-AVSC", ["--variant", "corrected"]),
    "class_contrastive_code_T0.1": ("C-AVSC", ["--class_contrastive_temperature", "0.1"]),
    "instance_contrastive_T0.1": ("I-AVSC", ["--instance_contrastive_temperature", "0.1", "--lam_I", "1"]),
}


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("key", AVCIL_FORMS)
def test_avcil_contrastive_forms(goldens, precision, key):
    term, flags = AVCIL_FORMS[key]
    learner = golden.learner("avcil", "audio-visual", DTYPES[precision], *flags)
    value = learner.losses(golden.batch(DTYPES[precision]), golden.TASK)[term]
    check_loss(goldens, f"{precision}/audio-visual/{key}", value, learner.network)


@pytest.mark.parametrize("precision", DTYPES)
def test_avcil_total_and_adam_step(goldens, precision):
    learner = golden.learner("avcil", "audio-visual", DTYPES[precision])
    before = {name: value.detach().clone() for name, value in learner.network.named_parameters()}
    optimiser = torch.optim.Adam(learner.trainable(), 1e-3, weight_decay=1e-4)
    total = sum(learner.losses(golden.batch(DTYPES[precision]), golden.TASK).values())
    check_loss(goldens, f"{precision}/audio-visual/ours_total", total, learner.network)
    optimiser.step()
    for name, value in learner.network.named_parameters():
        key = f"{precision}/audio-visual/ours_after_adam"
        np.testing.assert_allclose(value.detach().flatten()[:6], goldens[f"{key}/head/{name}"], atol=1e-6)
        change = (value.detach() - before[name]).double().sum()
        # The sum cancels: its round-off is that of its terms, each about the learning rate.
        np.testing.assert_allclose(change, goldens[f"{key}/delta_sum/{name}"], rtol=2e-3, atol=1e-4)


@pytest.mark.parametrize("modality", MODALITIES)
def test_task_wise_distillation(goldens, modality):
    learner = golden.learner("ssil", modality, torch.float32)
    batch = golden.batch(torch.float32)
    logits, old = learner.forward(learner.network, batch)["logits"], learner.cached_outputs(batch)["logits"]
    for number, task in enumerate(golden.TASK.past):
        ours = losses.distillation(logits[:, task], old[:, task], temperature=2)
        close(ours, goldens[f"f32/{modality}/KD_T2_task{number}"])


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("modality", MODALITIES)
def test_proxy_logits(goldens, precision, modality):
    learner = golden.learner("afc", modality, DTYPES[precision])
    out = learner.forward(learner.network, golden.batch(DTYPES[precision]))
    close(out["logits"], goldens[f"{precision}/{modality}/LSC_logits"])


def test_proxy_head_alone(goldens):
    head = ProxyHead(768, 7)
    with torch.no_grad():
        head.new.copy_(golden.filled("lsc/weight", (70, 768)))
        ours = head(torch.from_numpy(golden.z("input/lsc", (5, 768))).float())
    close(ours, goldens["f32/LSCLinear_768_7"])


@pytest.mark.parametrize("precision", DTYPES)
def test_afc_importance(goldens, precision):
    learner = golden.learner("afc", "audio-visual", DTYPES[precision])
    batch = golden.batch(DTYPES[precision])
    shares = learner.importance(learner.forward(learner.teacher, batch), batch.label)
    names = {"audio": "audio", "visual": "visual", "pooled": "visual_pooled"}
    norms = {sense: goldens[f"{precision}/audio-visual/AFC_I_{name}"] for sense, name in names.items()}
    for sense, norm in norms.items():
        close(shares[sense], norm / sum(norms.values()))


def test_herding_and_nearest_mean(goldens):
    learner = golden.learner("icarl", "audio", torch.float32)
    clips = torch.from_numpy(golden.z("input/herding", (60, 768))).float()
    label = torch.arange(60) % 2

    def features(audio):
        inputs = Batch(np.arange(len(audio)), None, audio, None)
        return F.normalize(learner.forward(learner.network, inputs)["feature"], dim=1).detach()

    padded = []
    for c in (0, 1):
        rows = torch.where(label == c)[0]
        own = features(clips[rows])
        (chosen,) = herd([own], 12, repeat=True)
        assert rows[chosen].tolist() == goldens["f32/herding_indices"][c].tolist()
        close(class_mean(own[chosen], 12, released=True), goldens["f32/herding_class_mean"][c])
        (all_of_them,) = herd([own], 33, repeat=True)
        slots = [index for index in goldens["f32/herding_33_indices"][c].tolist() if index >= 0]
        assert rows[all_of_them].tolist() == slots
        padded.append(class_mean(own[all_of_them], 33, released=True))
        close(padded[-1].norm(), goldens["f32/herding_33_class_mean_norm"][c])
    probe = features(torch.from_numpy(golden.z("input/nme", (9, 768))).float())
    assert torch.cdist(probe, torch.stack(padded)).argmin(1).tolist() == goldens["f32/NME_pred"].tolist()
