"""The comparison of methods: what may be learned from, how it is scored, and a small one from start to end."""

from __future__ import annotations

import csv
import importlib
import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage.io import imsave

from napari_affmae.config import Budget, FinetuneConfig, PretrainConfig
from napari_affmae.data.label_images import LabelledImage
from napari_affmae.data.scan import collection_from_arrays
from napari_affmae.model_config import ModelConfig

HERE = Path(__file__).parent


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The script finds the modules beside it, as when it is run."""
    monkeypatch.syspath_prepend(str(HERE))
    yield
    for name in [name for name in sys.modules if name == "quality" or name.split(".")[0] == "comparison"]:
        del sys.modules[name]


def module(name: str) -> ModuleType:
    return importlib.import_module(name)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A data set of eight small images of blobs, in three parts, and a pool of two."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "data" / "em_isbi2012"
    for name in (folder / "images", folder / "labels", tmp_path / "data" / "em_pool"):
        name.mkdir(parents=True)
    parts = ["train"] * 5 + ["val"] + ["test"] * 2
    for number in range(10):
        field = ndimage.gaussian_filter(rng.normal(size=(64, 64)), 4)
        labels = (field > np.quantile(field, 0.6)).astype(np.uint8)
        image = (60 + 100 * labels + rng.normal(0, 8, labels.shape)).clip(0, 255).astype(np.uint8)
        if number < len(parts):
            imsave(folder / "images" / f"i{number}.png", image, check_contrast=False)
            imsave(folder / "labels" / f"i{number}.png", labels, check_contrast=False)
        else:
            imsave(tmp_path / "data" / "em_pool" / f"p{number}.png", image, check_contrast=False)
    with (folder / "split.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("file", "split"), *((f"i{n}.png", part) for n, part in enumerate(parts))])
    return tmp_path / "data"


def test_only_training_images_and_the_pool_are_pretrained_on(root: Path) -> None:
    datasets = module("comparison.datasets")
    dataset = datasets.DATASETS["em_isbi2012"]
    names = {record.name for record in datasets.unlabelled(root, dataset).records}
    assert names == {f"i{number}.png" for number in range(5)} | {"p8.png", "p9.png"}
    scored = [image.name for part in ("val", "test") for image in datasets.labelled(root, dataset, part)]
    assert scored == ["i5.png", "i6.png", "i7.png"]


def test_labelled_images_lie_apart() -> None:
    spread = module("comparison.datasets").spread
    assert spread(range(14), 4) == [0, 4, 8, 12]
    assert spread(range(14), 1) == [0]
    assert spread(range(3), None) == [0, 1, 2]
    assert all(len(set(spread(range(n), count))) == count for n in range(1, 40) for count in range(1, n + 1))


def test_strokes_leave_zero_for_nothing(root: Path) -> None:
    datasets = module("comparison.datasets")
    dataset = datasets.DATASETS["em_isbi2012"]
    image = datasets.labelled(root, dataset, "train")[0]
    paint = datasets.painted([image], "scribbles", 0)[0].labels
    assert [info.id for info in dataset.table("scribbles")] == [1, 2]
    assert (paint[paint > 0] == image.labels[paint > 0] + 1).all()


def test_strokes_cover_one_percent_of_each_class_but_for_rare_ones() -> None:
    datasets = module("comparison.datasets")
    rng = np.random.default_rng(0)
    field = ndimage.gaussian_filter(rng.normal(size=(768, 768)), 16)
    labels = np.digitize(field, np.quantile(field, [0.5, 0.8])).astype(np.uint8)
    labels[300:330, 300:330] = 3
    record = collection_from_arrays({"a": labels}).records[0]
    for seed in range(2):
        paint = datasets.painted([LabelledImage(record, labels)], "scribbles", seed)[0].labels
        *common, rare = ((paint == index + 1).sum() / (labels == index).sum() for index in range(4))
        assert common == pytest.approx([0.01] * 3, rel=0.3)
        assert rare > 0.05, "three strokes are more than one percent of it"


def test_outlines_within_the_tolerance_are_hits() -> None:
    scores = module("comparison.scores")
    square = np.zeros((40, 40), bool)
    square[10:30, 10:30] = True
    stripe = np.zeros_like(square)
    stripe[10:30] = True
    for shift, expected in ((0, 1.0), (2, 1.0), (3, 0.0)):
        hits = scores.outline_hits(np.roll(stripe, shift, 0), stripe)
        assert scores.boundary_f1(hits) == pytest.approx(expected)
    far = scores.boundary_f1(scores.outline_hits(np.roll(square, 6, 1), square))
    assert 0.3 < far < 0.9
    assert scores.boundary_f1(scores.outline_hits(np.zeros_like(square), square)) == 0
    assert not scores.outline(np.ones((5, 5), bool)).any()


def test_scores_are_pooled_over_images() -> None:
    scores = module("comparison.scores")
    classes = module("comparison.datasets").DATASETS["em_isbi2012"].table("dense")
    truth = [np.array([[0, 0, 1, 1]]), np.array([[1, 1, 1, 1]])]
    found = scores.score([np.array([[0, 1, 1, 1]]), np.array([[1, 1, 0, 1]])], truth, classes, None)
    assert found.iou == {"interior": pytest.approx(1 / 3), "membrane": pytest.approx(5 / 7)}
    assert found.boundary_f1 is None


def test_a_network_is_trained_in_its_minutes() -> None:
    fit = module("comparison.fit")
    torch.manual_seed(0)
    network = torch.nn.Conv2d(1, 2, 1)
    rng = np.random.default_rng(0)

    def read(step: int) -> tuple[np.ndarray, np.ndarray]:
        labels = rng.integers(0, 2, (2, 8, 8))
        return labels[:, None].astype(np.float32), labels

    losses = []
    of_step = fit.segmentation_loss(network, torch.ones(2))

    def loss(tensors: tuple[torch.Tensor, ...]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        value, parts = of_step(tensors)
        losses.append(value.item())
        return value, parts

    steps = fit.fit(
        network, loss, read, lambda tensors, generator: tensors,
        budget=Budget(minutes=0.01), rate=0.1, betas=(0.9, 0.999), warmup=0.1, seed=0, device=torch.device("cpu"),
    )  # fmt: skip
    assert steps == len(losses) > 20
    assert losses[-1] < 0.2 * losses[0]


def test_every_parameter_of_the_transformer_has_one_depth() -> None:
    networks = module("comparison.networks")
    network = networks.VitSegmenter(networks.new_vit_mae("tiny", 1, 0), 3)
    groups = network.by_depth()
    grouped = [id(parameter) for group in groups for parameter in group]
    unused = {id(network.mae.mask_token), *(id(parameter) for parameter in network.mae.head.parameters())}
    assert len(grouped) == len(set(grouped))
    assert set(grouped) == {id(parameter) for parameter in network.parameters()} - unused
    assert len(groups) == 1 + networks.ENCODER_DEPTHS + 2
    assert network(torch.zeros(2, 1, 32, 24)).shape == (2, 3, 32, 24)


def test_the_transformer_is_masked_as_its_trial_says() -> None:
    methods = module("comparison.methods")
    chosen = module("comparison.trial").Trial("vit-mae", settings={"model.mask_ratio": 0.75}).chosen("model")
    masked = methods._masking(ModelConfig(**chosen))
    images, visible, hidden = masked((torch.randn(4, 1, 64, 64),), torch.Generator().manual_seed(0))
    assert images.shape == (4, 1, 64, 64)
    assert (visible.shape, hidden.shape) == ((4, 16), (4, 48))


@pytest.mark.slow
def test_a_small_comparison(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture) -> None:
    out = tmp_path / "lines.jsonl"
    methods = ["affmae", "affmae-scratch", "vit-mae"]
    command = [
        "quality.py", "--root", str(root), "--out", str(out), "--work", str(tmp_path / "runs"), "--dataset", "em_isbi2012",
        "--labels", "2", "--paint", "scribbles", "--seed", "1", "--preset", "tiny", "--tile", "32", "--batch", "2",
        "--pretrain-batch", "2", "--minutes", "0.02", "--finetune-minutes", "0.02", "--device", "cpu",
    ]  # fmt: skip
    for chosen in (methods[:2], methods):  # the second go does what is missing
        monkeypatch.setattr(sys, "argv", [*command, "--method", *chosen])
        assert module("quality").main() == 0
    lines = [json.loads(text) for text in out.read_text().splitlines()]
    assert [line["method"] for line in lines] == methods
    assert all(0 < line["miou"] < 1 and line["steps"] > 0 and line["commit"] for line in lines)
    assert "pretraining_steps" in lines[0]
    capsys.readouterr()
    monkeypatch.setattr(sys, "argv", ["quality.py", "--report", str(out)])
    assert module("quality").main() == 0
    table = capsys.readouterr().out
    assert "2 labelled images, scribbles" in table
    assert "| AFFMAE, from scratch | 1 |" in table
    kept = {path.name for path in (tmp_path / "runs").iterdir()}
    assert len(kept) == 2, "the two pretrained models, and nothing of runs on labels"
    assert any((tmp_path / "runs" / name / "model.safetensors").is_file() for name in kept)


def trial_line(method: str, seed: int = 0, miou: float = 0.5, **changes: object) -> dict:
    trial = module("comparison.trial")
    figures = {"miou": miou, "iou": {"a": miou, "b": miou}, "boundary_f1": None, "steps": 7}
    chosen = trial.Trial(method=method, seed=seed, **changes)
    return trial.line(chosen, figures, torch.device("cpu"), "abc1234")


def test_a_line_that_was_cut_costs_only_itself(tmp_path: Path) -> None:
    lines = module("comparison.lines")
    path = tmp_path / "new" / "lines.jsonl"
    lines.append_line(path, {"a": 1})
    with path.open("a") as file:
        file.write('{"a": 2, "b')
    lines.append_line(path, {"a": 3})
    assert lines.read_lines(path) == [{"a": 1}, {"a": 3}]
    assert lines.read_lines(tmp_path / "none") == []


def test_the_forest_is_one_trial_whatever_the_networks_get() -> None:
    identity = module("comparison.trial").identity
    assert identity(trial_line("forest", minutes=2.0)) == identity(trial_line("forest", minutes=10.0, preset="tiny"))
    assert identity(trial_line("forest", seed=1)) != identity(trial_line("forest"))
    assert identity(trial_line("unet", minutes=2.0)) != identity(trial_line("unet", minutes=10.0))


def test_the_report_puts_the_forest_beside_the_networks_and_shows_patience() -> None:
    report = module("comparison.report")
    lines = [trial_line("affmae", seed, 0.4 + 0.1 * seed, minutes=minutes) for seed in (0, 1) for minutes in (2.0, 10.0)]
    text = report.document([*lines, trial_line("forest", minutes=0.0, preset="tiny")], "## What did not help\n\nNothing.")
    two, ten, patience, notes = text.split("\n## ")[1:]
    for table in (two, ten):
        assert "| AFFMAE, pretrained | 0, 1 | 45.0 ± 7.1 | 45.0 | 45.0 | 7 |" in table
        assert "| random forest on filters | 0 | 50.0 |" in table
        assert "--method affmae --seed 0 1\n" in table
        assert "--method forest --seed 0\n" in table
    assert "| AFFMAE, pretrained | 45.0 ± 7.1 [2] | 45.0 ± 7.1 [2] |" in patience
    assert notes.startswith("What did not help")
    settings = {"finetune.deform": 0.25}
    text = report.document([trial_line("affmae", minutes=minutes, settings=settings) for minutes in (0.0, 2.0)])
    none, _, patience = text.split("\n## ")[1:]
    assert "| AFFMAE, not pretrained (finetune.deform = 0.25) | 0 |" in none
    assert "| AFFMAE, pretrained (finetune.deform = 0.25) | 50.0 [1] | 50.0 [1] |" in patience
    tried = report.document([trial_line("affmae", settings=chosen) for chosen in ({}, {"segment.views": 4})])
    assert "--set segment.views=4\n" in tried
    assert "| AFFMAE, pretrained (segment.views = 4) |" in tried


def test_what_labels_are_worth_is_one_table_that_the_forest_stands_in() -> None:
    tried = [
        trial_line("affmae", 0, 0.7, labels=1),
        trial_line("affmae", 1, 0.8, labels=1),
        trial_line("affmae", labels=None),
        trial_line("unet", labels=1, paint="scribbles"),
        trial_line("unet", labels=4, settings={"norm": "batch"}),
        trial_line("forest", labels=1, miou=0.4, minutes=7.0),
        trial_line("forest", labels=1, part="val"),
    ]
    table = module("comparison.report").document(tried).split("\n## ")[1]
    assert table.startswith("What labels are worth: em_vnc_sstem, 2 + 0.5 min\n")
    rows = [line for line in table.splitlines() if line.startswith("|")]
    assert rows[0] == "| method | dense, 1 | dense, all | strokes, 1 |"
    assert rows[2:] == [
        "| AFFMAE, pretrained | 75.0 ± 7.1 [2] | 50.0 [1] | – |",
        "| U-Net (MONAI) | – | – | 50.0 [1] |",
        "| random forest on filters | 40.0 [1] | – | – |",
    ]
    apart = [*tried[:3], trial_line("unet", labels=1, paint="scribbles", finetune_minutes=1.0)]
    assert "What labels are worth" not in module("comparison.report").document(apart)


def test_tiles_of_another_side_are_named_in_the_heading_and_compared_with_nothing_else() -> None:
    tried = [
        trial_line("affmae", miou=0.7),
        trial_line("affmae", miou=0.8, tile=512, batch=4),
        trial_line("affmae", miou=0.1, labels=1),
        trial_line("affmae", miou=0.2, minutes=5.0),
    ]
    assert "## em_vnc_sstem, 4 labelled images, dense, 2 + 0.5 min, tiles of 512²\n" in module("comparison.report").document(
        tried
    )
    (found,) = module("comparison.groups").by_side(tried)
    assert found[1] == {("affmae", ""): {256: [pytest.approx(70)], 512: [pytest.approx(80)]}}


def test_commands_make_the_lines_of_their_table_and_no_others() -> None:
    rates = {"model.ds_rates": [0.25, 0.25, 0.5, 0.5], "model.mask_kind": "random"}
    tried = [trial_line("affmae", 0), trial_line("unet", 1), trial_line("affmae", 2, settings=rates)]
    text = module("comparison.report").document(tried)
    first, second, third = [line for line in text.splitlines() if line.startswith("python tests/benchmarks/quality.py --root")]
    assert first.endswith("--method affmae --seed 0")
    assert second.endswith("--method unet --seed 1")
    assert third.endswith("--method affmae --seed 2 --set model.ds_rates=[0.25,0.25,0.5,0.5] model.mask_kind=random")
    parsed = [module("quality")._parser().parse_args(shlex.split(command)[2:]) for command in (first, second, third)]
    assert [given.device for given in parsed] == ["cpu"] * 3, "which a machine with a card would not take by itself"
    tried[0]["machine"]["device"] = "a card"
    assert "--device" not in module("comparison.report").document(tried[:1])
    words = third.split("--set ")[1].split()
    assert dict(module("quality")._setting(word) for word in words) == rates


def test_every_way_to_pretrain_begins_where_nothing_was_pretrained() -> None:
    slow = {"pretrain.learning_rate": 1e-4}
    tried = [
        trial_line("affmae", miou=0.3, minutes=0.0),
        trial_line("affmae", miou=0.6),
        trial_line("affmae", miou=0.5, settings=slow),
        trial_line("affmae", miou=0.4, settings={"model.mask_ratio": 0.75}),
        trial_line("vit-mae", miou=0.1, settings={"pretrain_rate": 1e-4}),
    ]
    ((_, scores),) = module("comparison.groups").patience(tried)
    nothing, percent = [pytest.approx(30)], pytest.approx
    assert scores == {
        ("affmae", ""): {0: nothing, 2: [percent(60)]},
        ("affmae", "pretrain.learning_rate = 0.0001"): {0: nothing, 2: [percent(50)]},
    }


def test_settings_are_told_where_they_are_not_the_default_of_the_method() -> None:
    differing = module("comparison.trial").differing
    for method, settings, told in (
        ("affmae", {"pretrain.learning_rate": 1e-3, "finetune.deform": 0.5}, {}),
        ("affmae", {"model.mask_kind": "random"}, {"model.mask_kind": "random"}),
        ("vit-mae", {"model.mask_kind": "random", "pretrain_rate": 5e-4}, {}),
        ("vit-mae", {"model.mask_kind": "perlin"}, {"model.mask_kind": "perlin"}),
    ):
        assert differing(trial_line(method, settings=settings)) == told


def test_cards_that_compute_alike_share_a_table_that_names_both() -> None:
    lines = [trial_line("affmae", seed, minutes=2.0 * minutes) for seed, minutes in ((0, 1), (1, 1), (0, 5))]
    for line, device in zip(lines, ("NVIDIA H100 80GB HBM3", "NVIDIA H200", "NVIDIA H200"), strict=True):
        line["machine"] = {**line["machine"], "device": device}
    two, _, patience = module("comparison.report").document(lines).split("\n## ")[1:]
    assert "| AFFMAE, pretrained | 0, 1 |" in two
    assert "NVIDIA H100 80GB HBM3, torch" in two
    assert "NVIDIA H200, torch" in two
    assert "NVIDIA H100 80GB HBM3, NVIDIA H200." in patience
    lines[1]["machine"]["device"] = "NVIDIA A100"
    assert module("comparison.report").document(lines).count("## em_vnc_sstem") == 3


def test_tables_stand_in_the_order_of_data_whatever_was_tried_first() -> None:
    tried = [
        trial_line("affmae", dataset="fluo_dsb2018"),
        trial_line("affmae", part="val"),
        trial_line("affmae", labels=4, minutes=10.0),
        trial_line("affmae", labels=None),
        trial_line("affmae", labels=4, minutes=2.0),
        trial_line("affmae", labels=1),
        trial_line("forest", labels=2, paint="scribbles"),
    ]
    text = module("comparison.report").document(tried)
    heads = [line.removeprefix("## ") for line in text.splitlines() if line.startswith("## ")]
    assert [head.replace(", dense, ", ", ") for head in heads if not head.startswith("What ")] == [
        "em_vnc_sstem, 1 labelled image, 2 + 0.5 min",
        "em_vnc_sstem, 4 labelled images, 2 + 0.5 min",
        "em_vnc_sstem, 4 labelled images, 10 + 0.5 min",
        "em_vnc_sstem, all labelled images, 2 + 0.5 min",
        "em_vnc_sstem, 4 labelled images, 2 + 0.5 min, val split",
        "fluo_dsb2018, 4 labelled images, 2 + 0.5 min",
        "em_vnc_sstem, 2 labelled images, scribbles",
    ]


def test_a_setting_that_became_the_default_is_named_no_more() -> None:
    identity, report = module("comparison.trial").identity, module("comparison.report")
    usual = trial_line("affmae", settings={"finetune.deform": FinetuneConfig().deform})
    assert identity(usual) == identity(trial_line("affmae"))
    assert identity(trial_line("affmae", settings={"finetune.deform": 0.25})) != identity(usual)
    text = report.document([usual, trial_line("affmae", seed=1)])
    assert "| AFFMAE, pretrained | 0, 1 |" in text
    assert "--set" not in text


def test_shares_split_the_list_and_keep_a_pretrained_model_on_one_card(monkeypatch: pytest.MonkeyPatch) -> None:
    quality = module("quality")

    def trials(*words: str) -> list:
        given = quality._parser().parse_args(["--labels", "1", "4", "--minutes", "0", "2", *words])
        return list(quality._trials(given))

    halves = [trials("--share", f"{part}/2") for part in (0, 1)]
    assert sorted(map(repr, halves[0] + halves[1])) == sorted(map(repr, trials()))
    models = [{(t.method, t.seed, t.minutes) for t in half} for half in halves]
    assert not models[0] & models[1]
    with pytest.raises(SystemExit):
        trials("--share", "2/2")


def test_each_set_is_a_variant() -> None:
    quality = module("quality")
    words = ["--method", "affmae", "--seed", "3", "--set", "--set", "finetune.deform=0.5", "segment.views=4"]
    plain, changed = quality._trials(quality._parser().parse_args(words))
    assert plain.settings == {}
    assert changed.settings == {"finetune.deform": 0.5, "segment.views": 4}
    assert changed.views == 4
    assert changed.chosen("finetune") == {"deform": 0.5}


def methods_of(root: Path, work: Path, device: str = "cpu", commit: str = "abc1234") -> object:
    return module("comparison.methods").Methods(root, work, torch.device(device), compiled=False, commit=commit)


def test_a_pretrained_model_is_that_of_its_code_settings_and_device(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = module("comparison.trial")
    ours, vit = trials.Trial("affmae"), trials.Trial("vit-mae")

    def key(trial: object = ours, **changes: str) -> str:
        return methods_of(root, tmp_path, **changes)._key(trial)

    rate = PretrainConfig(model=ModelConfig()).learning_rate
    same = trials.Trial("affmae", labels=1, settings={"pretrain.learning_rate": rate, "finetune.deform": 0.25})
    assert key() == key(same)
    others = [key(trials.Trial("affmae", settings={"pretrain.learning_rate": rate / 2})), key(commit="def5678"), key(vit)]
    others += [key(trials.Trial("affmae", seed=1)), key(trials.Trial("affmae", minutes=5.0))]
    others.append(key(device="mps"))

    class Before(PretrainConfig):
        learning_rate: float = rate / 2

    before = key()
    monkeypatch.setattr(trials, "PretrainConfig", Before)
    trials._usual.cache_clear()
    others.append(key())
    assert before not in others
    assert len(set(others)) == len(others) - 1, "a default of before is the setting of before"


def test_a_model_that_is_pretrained_already_takes_no_minutes(root: Path, tmp_path: Path) -> None:
    methods = methods_of(root, tmp_path)
    trial = module("comparison.trial").Trial
    for method in ("affmae", "vit-mae"):
        pretrained = trial(method, "em_isbi2012", 4, "dense", 0, minutes=10, finetune_minutes=0.5)
        assert methods.expected_minutes(pretrained) == 10.5
        file = methods._whole(pretrained)
        file.parent.mkdir()
        assert methods.expected_minutes(pretrained) == 10.5, "a folder is left of a run that was killed, too"
        file.touch()
        assert methods.expected_minutes(pretrained) == 0.5
    assert methods.expected_minutes(trial("unet", "em_isbi2012", 4, "dense", 0, minutes=10, finetune_minutes=0.5)) == 10.5
    assert methods.expected_minutes(trial("forest", "em_isbi2012", 4, "dense", 0, minutes=10)) == 0


def test_a_trial_that_fails_leaves_the_others_their_turn(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    quality = module("quality")

    def run(methods: object, trial: object, *others: object) -> dict:
        if trial.seed == 0:
            raise RuntimeError("no kernel today")
        return {"miou": 1.0}

    monkeypatch.setattr(quality, "run", run)
    out = tmp_path / "lines.jsonl"
    command = ["quality.py", "--root", str(root), "--out", str(out), "--work", str(tmp_path / "runs"), "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", [*command, "--method", "unet", "--seed", "0", "1", "--commit", "abc1234"])
    assert quality.main() == 1
    (line,) = (json.loads(text) for text in out.read_text().splitlines())
    assert (line["seed"], line["commit"]) == (1, "abc1234")
    assert "no kernel today" in capsys.readouterr().err


def test_forest_learns_brightness() -> None:
    pytest.importorskip("sklearn")
    forest = module("comparison.forest").Forest(2, seed=0)
    labels = np.zeros((48, 48), np.int64)
    labels[:, 24:] = 1
    image = (80 * labels + np.random.default_rng(0).integers(0, 20, labels.shape)).astype(np.uint8)
    target = np.where(np.arange(48)[:, None] % 4 == 0, labels, -1)
    forest.fit([image], [target])
    assert (forest.predict(image) == labels).mean() > 0.95


def test_unet_keeps_the_size() -> None:
    pytest.importorskip("monai")
    network = module("comparison.networks").new_unet(3, 4, 0)
    assert network(torch.zeros(1, 3, 64, 48)).shape == (1, 4, 64, 48)
