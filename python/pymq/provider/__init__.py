"""Buses by the names that programs of the original import: redis, simple, ipc; and a base."""
