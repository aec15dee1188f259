# Kafka, the registry and Postgres are found through KAFKA_BROKERS, SCHEMA_REGISTRY_URL and DATABASE_URL: from the
# environment, from .env, or else from the services that `make up` started.
.DEFAULT_GOAL := help
.PHONY: help demo up down reset env status psql check migrate register produce consume serve stats dlq audit test chaos bench bench-micro fuzz lint fmt build clean tools

STREAM ?= device_telemetry
ARGS ?=

SLUICEGATE := cargo run --release --quiet --
WITH := @scripts/with-services

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## The whole pipeline on services of its own, without any set-up; ARGS=--hold
	@scripts/install demo
	cargo build --locked
	@cargo run --quiet --locked -- demo $(ARGS)

up: ## Start Kafka, the schema registry, Postgres and what watches them, and wait until they answer
	@scripts/services up

down: ## Stop them; the data stay
	@scripts/services down

reset: ## Stop them and delete their data
	@scripts/services reset

status: ## What runs, and where
	@scripts/services status

env: ## The addresses in force: eval "$(make -s env)"
	$(WITH)

psql: ## psql on the database; ARGS='-c "select 1"'
	$(WITH) scripts/services psql $(ARGS)

check: ## Check the streams' contracts and, where the registry answers, their compatibility
	$(WITH) --if-any $(SLUICEGATE) check $(ARGS)

migrate: ## Create or extend the tables
	$(WITH) $(SLUICEGATE) migrate $(ARGS)

register: ## Register the streams' schemas
	$(WITH) $(SLUICEGATE) register $(ARGS)

produce: ## Send 10,000 or COUNT simulated events to STREAM, or those of FROM=FILE
	$(WITH) $(SLUICEGATE) produce $(STREAM) $(if $(FROM),--from "$(FROM)",$(if $(COUNT),--count $(COUNT))) $(ARGS)

consume: ## Land all that is in the topics in Postgres; FOLLOW=1 goes on until stopped
	$(WITH) $(SLUICEGATE) migrate
	$(WITH) $(SLUICEGATE) consume $(if $(FOLLOW),,--exit-when-drained) $(ARGS)

serve: ## Make metrics and alerts of what lands, every minute, and serve /metrics, until stopped
	$(WITH) $(SLUICEGATE) migrate
	$(WITH) $(SLUICEGATE) serve $(ARGS)

stats: ## Row counts, dead letters, lag
	$(WITH) $(SLUICEGATE) stats $(ARGS)

dlq: ## Dead letters; ARGS='explain 17'
	$(WITH) $(SLUICEGATE) dlq $(or $(ARGS),list)

audit: ## Prove that nothing was lost, or name what is missing
	$(WITH) $(SLUICEGATE) audit $(ARGS)

test: ## All tests, against real services; ARGS go to cargo test
	@scripts/test $(ARGS)

fuzz: ## Throw made-up bytes at what meets foreign ones, SECONDS=60 for each of TARGETS
	@scripts/fuzz $(or $(SECONDS),60) $(TARGETS)

chaos: ## Break services of its own, and prove that nothing is lost; MINUTES=30, SEED=7
	@scripts/chaos $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(ARGS)

bench-micro: ## What one core decodes, checks and encodes a second
	cargo bench --locked --bench pipeline $(if $(ARGS),-- $(ARGS))

bench: export SLUICEGATE := $(BINARY)
bench: ## Measure rows a second against Postgres' own limit and two peers; ROWS=1000000
	@scripts/bench $(WHAT) $(if $(ROWS),--rows $(ROWS)) $(if $(REPEATS),--repeats $(REPEATS)) $(ARGS)

lint: ## Formatting, clippy, documentation, shell scripts
	@scripts/lint

fmt: ## Format the code
	cargo fmt

build: ## The release binary, target/release/sluicegate
	cargo build --release

clean: ## Delete what was built
	cargo clean

check migrate register produce consume serve stats audit bench-micro build: | tools

tools:
	@scripts/install build
