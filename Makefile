# Everything goes through one virtual environment; each target sets up what it needs.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PY     := $(BIN)/python
# Bytecode once: a training is nine processes, whose first half minute was spent compiling imports.
UV     := $(PY) -m uv pip install -q --compile-bytecode --python $(PY)
RUN    := PATH="$(CURDIR)/$(BIN):$$PATH"

# uv does not read pip's find-links: pass it on where a machine sets one.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
export OMP_NUM_THREADS ?= 1
export DVC_NO_ANALYTICS := 1
export MLFLOW_DISABLE_TELEMETRY := true
export RAY_USAGE_STATS_ENABLED := 0

.PHONY: help setup dlib repro paper test test-slow gate baseline rescore rescore-metrics rescore-model lint smoke ui bench bench-metrics bench-model bench-train bench-crop soak lock clean
help: ; @sed -n 's/^## //p' $(MAKEFILE_LIST)

## setup      make .venv with every pinned package
setup: $(VENV)/.stamp

$(VENV)/.stamp: requirements/torch.txt requirements/lock.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install -q --disable-pip-version-check uv==0.13.9
	$(UV) -r requirements/torch.txt
	$(UV) --no-deps -r requirements/lock.txt
	$(UV) --no-deps --no-build-isolation -e .
	touch $@

## dlib       68 landmarks for real video (100 MB)
dlib: setup ; $(UV) --no-deps -r requirements/dlib.txt

## repro      the whole pipeline: corpus, crop, train, generate, score, leaderboard
repro: setup ; $(RUN) $(PY) scripts/session.py dvc repro

## paper      write the published sizes and datasets into params.yaml (docs/data.md)
paper: setup ; $(PY) scripts/paper.py

## smoke      the same with tiny parameters in a temporary copy (minutes)
smoke: setup ; $(RUN) $(PY) scripts/smoke.py

## test       fast tests, two at a time, and one smoke run, which needs both cores
test: setup
	$(PY) -m pytest -q -m "not slow" -n 2 --dist loadfile --ignore tests/test_repro.py
	$(PY) -m pytest -q -m "not slow" tests/test_repro.py

## test-slow  everything, kills and browsers included (Chromium on PATH or as FIXTALK_CHROMIUM)
test-slow: setup
	$(UV) --no-deps -r requirements/browser.txt
	$(PY) -m pytest -q

## gate       score small committed videos, and a small committed model, and compare with baselines/
gate: rescore
	$(RUN); worst=0; for name in metrics model; do \
	  fixtalk gate baselines/$$name/scores build/gate/$$name --out build/gate/$$name.md || worst=$$?; done; exit $$worst

## baseline   make those scores the new baselines; look at the difference, commit it alone
baseline: rescore
	for name in metrics model; do mkdir -p baselines/$$name/scores && \
	  cp $(addprefix build/gate/$$name/,metrics.json scores.parquet features.safetensors) baselines/$$name/scores/ || exit 1; done

rescore: export CUDA_VISIBLE_DEVICES :=
rescore: dlib
	rm -rf build/gate
	FIXTALK_WORKERS=1 $(MAKE) -j2 rescore-metrics rescore-model

rescore-metrics:
	$(RUN) fixtalk score --generated baselines/metrics/generated --reference baselines/metrics/reference --weights build/gate/none --out build/gate/metrics

rescore-model:
	$(RUN) $(PY) -m pipelines.generate baselines/model/clips baselines/model/checkpoint build/gate/model/videos
	$(RUN) $(PY) -m pipelines.score baselines/model/clips baselines/model/judges build/gate/none build/gate/model/videos build/gate/model

## lint       formatting and style
lint: setup ; $(BIN)/ruff format --check . && $(BIN)/ruff check .

## soak       a small training killed twenty times at random, beside one left alone
soak: setup ; $(RUN) $(PY) scripts/soak.py

## bench-train  step time under Ray Train beside a plain loop, and two workers beside one
bench-train: setup ; $(RUN) $(PY) -m benchmarks.training

## bench      frames per CPU-second of the renderer
bench: setup ; $(PY) benchmarks/render.py

## bench-metrics  our metrics beside their peers, and all of them on 100 clips
bench-metrics: .peers/.stamp ; $(PY) -m benchmarks.metrics

.peers/.stamp: requirements/peers.txt | setup
	$(UV) --no-deps --no-build-isolation --target .peers -r requirements/peers.txt
	touch $@

## bench-model  GFLOP, CPU-seconds and memory of the published size at 512 px
bench-model: setup ; $(PY) -m benchmarks.model

## bench-crop  frames a second of the crop stage, its memory, and pairs a second from its shards
bench-crop: setup ; $(RUN) $(PY) scripts/session.py $(PY) -m benchmarks.crop

## ui         MLflow's comparison pages on 127.0.0.1:5000
ui: setup ; $(RUN) MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false mlflow server --workers 1 --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1 --port 5000

## lock       resolve requirements/base.in anew
lock: setup
	$(PY) -m uv pip compile -q --python-version 3.11 --override requirements/overrides.txt --no-header --no-annotate requirements/base.in \
	  | grep -v -E '^(nvidia-|cuda-|triton|torch==|torchvision==)' > requirements/lock.new
	mv requirements/lock.new requirements/lock.txt

## clean      remove the environment and the peers (data, models and results stay: DVC owns them)
clean: ; rm -rf $(VENV) .peers
