# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
FULL := samples/multijet-full.parquet
TEST := samples/multijet-test.parquet
JUDGE := samples/multijet-judge.parquet
FRESH := samples/multijet-formula.parquet
FEW := samples/multijet-few.parquet
JETS := samples/jet-electron.parquet
DARK := samples/top_dm-full.parquet
DARK_TEST := samples/top_dm-test.parquet
DARK_JUDGE := samples/top_dm-judge5.parquet

.PHONY: demo test fast lint docs pictures web sample sample-top-dm full-sample tune results clean

$(VENV)/.installed: pyproject.toml constraints.txt $(wildcard setup.py src/hepkan/splines/csrc/*)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --prefer-binary --only-binary pythia8mc -c constraints.txt -e '.[generate,rivals,dev]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/hepkan env
	$(BIN)/hepkan run multijet --quick -o runs/demo

test: $(VENV)/.installed lint
	$(BIN)/python -m pytest -n 2 --dist worksteal

fast: $(VENV)/.installed
	$(BIN)/python -m pytest -n 2 --dist worksteal -m "not slow"

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/mypy

# The documentation, into site/; to read it with its search: python -m http.server -d site
docs: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

pictures: $(VENV)/.installed
	$(BIN)/python docs/tools/pictures.py

# The script and style of the explorer, from web/ into the package; needs Node.js.
web:
	cd web && npm ci --no-audit --no-fund && npm run build

# The sample in the wheel: 10,000 prompt rows and 10,000 multijet rows.
sample: $(VENV)/.installed
	$(BIN)/hepkan generate multijet --events 20000 --seed 1 --workers 2 -o src/hepkan/tasks/samples/multijet.parquet

# The same of the top + dark matter task: 8,000 rows, all masses of the mediator alike.
sample-top-dm: $(VENV)/.installed
	$(BIN)/hepkan generate top_dm --events 8000 --seed 1 --workers 2 -o src/hepkan/tasks/samples/top_dm.parquet

# The samples behind the numbers of README: four hours on two cores, kept out of git.
full-sample: $(FULL) $(TEST) $(JUDGE) $(FRESH) $(FEW) $(JETS) $(DARK) $(DARK_TEST) $(DARK_JUDGE)

$(FULL): | $(VENV)/.installed
	$(BIN)/hepkan generate multijet --seed 2 --workers 2 -o $(FULL) \
	  --rows single_top_tchannel=66000 --rows ttbar=28000 --rows wjets=8000 --rows multijet=90000

# Judges what was chosen with the other one.
$(TEST): | $(VENV)/.installed
	$(BIN)/hepkan generate multijet --seed 3 --workers 2 -o $(TEST) \
	  --rows single_top_tchannel=22000 --rows ttbar=9400 --rows wjets=2700 --rows multijet=30000

# The other test sample has been looked at; these judge what was chosen later: pruned networks and formulae.
$(JUDGE): | $(VENV)/.installed
	$(BIN)/hepkan generate multijet --seed 4 --workers 2 -o $(JUDGE) \
	  --rows single_top_tchannel=11000 --rows ttbar=4700 --rows wjets=1350 --rows multijet=15000

$(FRESH): | $(VENV)/.installed
	$(BIN)/hepkan generate multijet --seed 5 --workers 2 -o $(FRESH) \
	  --rows single_top_tchannel=11000 --rows ttbar=4700 --rows wjets=1350 --rows multijet=15000

$(FEW): | $(VENV)/.installed
	$(BIN)/hepkan generate multijet --seed 6 --workers 2 -o $(FEW) \
	  --rows single_top_tchannel=11000 --rows ttbar=4700 --rows wjets=1350 --rows multijet=15000

$(JETS): | $(VENV)/.installed
	$(BIN)/hepkan generate multijet --seed 2 --workers 2 -o $(JETS) --rows jet_electron=500

$(DARK): | $(VENV)/.installed
	$(BIN)/hepkan generate top_dm --events 320000 --seed 2 --workers 2 -o $(DARK)

$(DARK_TEST): | $(VENV)/.installed
	$(BIN)/hepkan generate top_dm --events 40000 --seed 3 --workers 2 -o $(DARK_TEST)

# Two test samples (seeds 3 and 4) have been looked at; this one judged what was chosen afterwards.
$(DARK_JUDGE): | $(VENV)/.installed
	$(BIN)/hepkan generate top_dm --events 40000 --seed 5 --workers 2 -o $(DARK_JUDGE)

# Chooses the settings of every model on validation events; the winners stand in the cards.
tune: $(FULL) $(DARK)
	$(BIN)/python benchmarks/tuning.py multijet --data $(FULL)
	$(BIN)/python benchmarks/tuning.py top_dm --data $(DARK)
	$(BIN)/python benchmarks/teachers.py --data $(DARK)

results: full-sample
	$(BIN)/python benchmarks/multijet.py --data $(FULL) --test $(TEST) --jets $(JETS)
	$(BIN)/python benchmarks/pruning.py --judge --data $(FULL) --test $(FEW)
	$(BIN)/python benchmarks/multijet_formula.py --judge --data $(FULL) --test $(FRESH)
	$(BIN)/python benchmarks/formula_page.py
	$(BIN)/python benchmarks/multijet_teachers.py --judge --data $(FULL) --test $(JUDGE) $(FRESH)
	$(BIN)/python benchmarks/multijet_events.py --judge --data $(FULL) --test $(JUDGE) $(FRESH)
	$(BIN)/python benchmarks/top_dm.py --data $(DARK) --test $(DARK_JUDGE) --scan-test $(DARK_TEST)
	$(BIN)/python benchmarks/ideas.py top_dm --data $(DARK)
	$(BIN)/python benchmarks/ideas.py multijet
	$(BIN)/python benchmarks/own_data.py

clean:
	rm -rf build dist runs scans
