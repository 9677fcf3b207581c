"""The header of a model file is readable where torch is not loaded, and must not be."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import napari_affmae
from napari_affmae import ModelConfig, Segmenter, save_model
from napari_affmae.card import ClassInfo, ModelCard

READ = """
import sys
from napari_affmae.model_header import read_card

header = read_card(sys.argv[1])
print(header.kind, header.num_classes, header.card.classes[0].name)
sys.exit(", ".join(sorted({"torch", "triton", "affmae_kernels"} & set(sys.modules))) or 0)
"""


def test_reading_the_header_loads_no_torch(tmp_path: Path) -> None:
    model = Segmenter(ModelConfig.preset("tiny", embed_dims=(12, 24, 48, 64), depths=(1, 1, 1, 1), decoder_dim=32), 2)
    model.card = ModelCard(
        classes=(ClassInfo(id=1, name="ground", color="#000000"), ClassInfo(id=2, name="cell", color="#ffffff"))
    )
    path = save_model(model, tmp_path / "mine.safetensors")
    source = Path(napari_affmae.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(source), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", READ, str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["segmenter", "2", "ground"]
