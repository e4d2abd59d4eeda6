# `./run` is the front door; this is for those who type make.
.PHONY: bench test demo
bench:
	./run bench
test:
	./run test
demo:
	./run demo
