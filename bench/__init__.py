"""Rows a second: sluicegate, the limits of Kafka and Postgres, and what else a user could take."""
