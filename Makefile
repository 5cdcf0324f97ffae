# Everything a user types. Each target starts from a fresh clone: the environment is made first if it is missing.
VENV := .venv
BIN := $(CURDIR)/$(VENV)/bin
PYTHON ?= python3
# Stages call `python`: the environment's own comes first on the path.
export PATH := $(BIN):$(PATH)
DATA ?=

.PHONY: env repro test lint recipes real ablation methods encoders ui lock wheel licences sbom bounds oldest docs clean

env: $(VENV)/.ready

# An environment knows its own place: in a folder that moved or was copied it is made anew.
ifneq ($(shell cat $(VENV)/.ready 2>/dev/null),$(CURDIR))
.PHONY: $(VENV)/.ready
endif

# torch comes first and alone: with it installed, no other requirement can pull in another build of it.
$(VENV)/.ready: requirements.lock pyproject.toml
	@test ! -s $@ || test "$$(cat $@)" = "$(CURDIR)" || { echo "the folder moved; making its environment anew"; rm -rf $(VENV); }
	test -d $(VENV) || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.lock)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	printf '%s' "$(CURDIR)" > $@

repro: env
	medssl repro

test: env
	python -m pytest -n auto --maxprocesses 4 --dist loadgroup --no-loadscope-reorder --durations 15

lint: env
	ruff check .
	ruff format --check .
	mypy
	codespell

# The pages of docs/ as a site, in site/; a link that leads nowhere is an error.
docs: env
	NO_MKDOCS_2_WARNING=1 python -m mkdocs build --strict

# After adding a recipe: the table of all.
recipes: env
	python -m medssl.pretrain.recipes docs/reference/recipes.md

real: env
	@test -n "$(DATA)" || { echo "usage: make real DATA=DIR   (DIR holds ecg/ ppg/ eeg/ mri/ ct/)"; exit 2; }
	medssl demo --params params.real.yaml --data "$(DATA)" --out data/real

# The encoders that come with the package (section release of params.real.yaml), made of all patients below DIR.
encoders: env
	@test -n "$(DATA)" || { echo "usage: make encoders DATA=DIR   (DIR holds ecg/ ppg/ eeg/ mri/ ct/)"; exit 2; }
	python -m pipeline.ready "$(DATA)"

# What counts, by modality, and its document; a second call goes on where the first one stopped.
ablation: env
	@test -n "$(DATA)" || { echo "usage: make ablation DATA=DIR   (DIR holds ecg/ ppg/ eeg/ mri/ ct/)"; exit 2; }
	medssl ablate params.ablation.yaml --data "$(DATA)" --out data/ablation
	mkdir -p studies/ablation && cp data/ablation/ablation.parquet studies/ablation
	cp data/ablation/ablation.md docs/ablation.md

# Which recipe is worth its hours, and its document.
methods: env
	@test -n "$(DATA)" || { echo "usage: make methods DATA=DIR   (DIR holds ecg/ ppg/ eeg/ mri/ ct/)"; exit 2; }
	medssl ablate params.methods.yaml --data "$(DATA)" --out data/methods
	mkdir -p studies/methods && cp data/methods/*.parquet studies/methods
	python -m medssl.ablate.methods params.methods.yaml studies/methods docs/methods.md

ui: env
	python -m pipeline.ui

# After changing pyproject.toml: install, run the tests, then write down what is installed.
lock: env
	# Of torch the version alone: which build of it, an index decides.
	python -m pip freeze --exclude-editable | sed 's/^\(torch==[0-9.]*\)+.*/\1/' > requirements.new
	sed -n '/^#/p' requirements.lock > requirements.head
	cat requirements.head requirements.new > requirements.lock
	rm requirements.head requirements.new

# What a release is: dist/medssl-VERSION.tar.gz and a wheel made from it alone. The version is that of the tags.
wheel: env
	rm -rf dist
	python -m hatchling build -t sdist
	mkdir dist/unpacked && tar -xzf dist/*.tar.gz -C dist/unpacked --strip-components 1
	cd dist/unpacked && python -m hatchling build -t wheel -d ..
	rm -rf dist/unpacked

# After changing dependencies: docs/licences.md; fails on a licence that nobody has looked at.
licences: env
	python -m release.licences docs/licences.md

# What a plain installation brings along (CycloneDX), with the versions of the lock file. The tool (Apache-2.0) has an
# environment of its own: what it needs makes each import of MONAI a second longer.
SBOM := $(CURDIR)/.venv-sbom/bin/python
sbom: env
	test -x $(SBOM) || $(PYTHON) -m venv .venv-sbom
	$(SBOM) -m pip install --quiet --disable-pip-version-check "cyclonedx-bom>=5"
	mkdir -p dist
	python -m release.sbom $(SBOM) dist/medssl.cdx.json

# After changing lower bounds: requirements.oldest.
bounds: env
	python -m release.oldest requirements.oldest

# Are the lower bounds true? An environment of its own with the oldest versions, and the tests that need no training.
# Old versions warn of what newer ones mended; that is no error there.
OLDEST := $(CURDIR)/.venv-oldest/bin/python
oldest:
	test -x $(OLDEST) || $(PYTHON) -m venv .venv-oldest
	$(OLDEST) -m pip install --quiet --disable-pip-version-check "$$(grep '^torch==' requirements.oldest)"
	$(OLDEST) -m pip install --quiet --disable-pip-version-check -c requirements.oldest -e ".[dev]"
	$(OLDEST) -m pytest -q -W default -m "not slow and not gpu" tests/test_config.py tests/test_table.py \
		tests/test_store.py tests/test_hub.py tests/curate tests/ingest tests/models tests/objectives tests/sources

clean:
	rm -rf $(VENV) .venv-oldest .venv-sbom
