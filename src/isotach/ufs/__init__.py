"""Under storages: one interface, one folder per driver, wrappers that are drivers themselves."""
