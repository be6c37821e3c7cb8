module github.com/orlop/orlop/tests/harness

go 1.26.0
