# Everything that one does with this checkout. `make help` lists the targets; none needs another to be called first.

SHELL := /bin/bash
.DEFAULT_GOAL := help
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: help setup demo test lint test-unit test-integration e2e e2e-disruptions cluster-up cluster-down images crds bench-engine bench-planning bench-reconcile bench-router bench-scaling bench-signals clean

help: ## Say what each target does
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  \033[1mmake %-17s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(READY) ## Make the virtual environment .venv with all that development needs
$(READY): pyproject.toml constraints.txt setup.sh
	@./setup.sh $(VENV)

demo: setup ## Start a Kubernetes, install Tokenfleet, serve a small model and stream an answer
	@$(RUN) -m e2e.demo

test: lint test-unit test-integration e2e ## Pass all tests: the quick ones first, then those that need a cluster

lint: setup ## Check style, types and the layers between the packages
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports

test-unit: setup ## Tests that need nothing, in less than a minute
	@$(RUN) -m pytest tests --ignore=tests/integration --numprocesses=auto

test-integration: setup ## Tests on a real API server and a real Redis (built or installed if missing)
	@$(RUN) -m pytest tests/integration --durations=15

e2e: setup ## Stories on a whole cluster with real vLLM pods (started if missing)
	@$(RUN) -m pytest e2e --durations=15

e2e-disruptions: setup ## Everything that may happen to a fleet, under load (ARGS=--streams=10); writes build/bench/disruptions.json
	@$(RUN) -m e2e.disruptions $(ARGS)

cluster-up: setup ## Start the local Kubernetes, or look at the one that KUBECONFIG names
	@$(RUN) -m e2e.cluster up

cluster-down: setup ## Stop the local Kubernetes and leave nothing behind
	@$(RUN) -m e2e.cluster down

images: setup ## Build the images of operator and engine that are missing
	@$(RUN) -m e2e.cluster images

crds: setup ## Write crds/ and the chart's CRD from the models in operator/tokenfleet/api
	@$(RUN) -m tokenfleet.api.crd

bench-engine: setup ## Prove on real vLLM what each technique does, and what ours costs (ARGS="--only prefix"); writes build/bench/engine.json
	@$(RUN) -m e2e.bench.engine $(ARGS)

bench-planning: setup ## What the plans predict beside what real vLLM does, and our load test beside others; writes build/bench/planning.json
	@$(RUN) -m e2e.bench.planning $(ARGS)

bench-reconcile: setup ## Time 1,000 LLMDeployments against a bare client; writes build/bench/reconcile.json
	@$(RUN) -m e2e.bench.reconcile

bench-router: setup ## Our router beside others, a core each: CPU, latency, memory (ARGS=--quick); writes build/bench/router.json
	@$(RUN) -m e2e.bench.router $(ARGS)

bench-scaling: setup ## Our rule of scaling beside HPA's and KEDA's, in simulation, with plots; writes build/bench/scaling.json
	@$(RUN) -m e2e.bench.scaling $(ARGS)

bench-signals: setup ## What 2,000 idle routers cost the controller, and how fast a wake-up is decided; writes build/bench/signals.json
	@$(RUN) -m e2e.bench.signals $(ARGS)

clean: setup ## Stop the cluster; delete it, its caches, build/ and .venv
	@$(RUN) -m e2e.cluster clean
	@rm -rf build $(VENV)
