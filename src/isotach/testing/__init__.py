"""Real servers, faults and conformance suites for tests, the demo and the benchmarks. Never imported by production."""
