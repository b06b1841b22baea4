"""The sets that other clients than `corelog bench` take part in. Each takes the round it is of."""

from functools import partial

from . import clients, loads

GB = 1e9
MIB = 1 << 20
RECORD_BYTES = 1024
PARTITIONS = 16
# A reader begins before the writer and ends after it.
MARGIN_SECONDS = 2


def tail(this):
    """A producer of small requests alone, and again with a consumer that keeps up with it."""
    load, seconds = loads.TAIL, this.args.seconds

    def alone():
        with this.topic("tail", load.partitions) as topic:
            return this.measured(load.name, lambda: this.bench(load.run, topic, seconds))

    def together():
        with this.topic("tail", load.partitions) as topic:

            def run():
                whole = seconds + MARGIN_SECONDS
                port, pinned = this.broker.port, this.args.pinned
                reader = clients.Tail(port, topic, load.partitions, whole, pinned)
                report = this.bench(load.run, topic, seconds)
                return report, reader.report()

            return this.measured(f"{load.name}, read", run)

    quiet, both = this.attempt(load.name, alone), this.attempt(load.name, together)
    if quiet is None or both is None:
        return
    report, took = quiet
    alone_us = clients.measured_cpu(report, took) / report["requests"] * 1e6
    (report, read), took = both
    if not read["fetches"]:
        this.notes.append(f"{this.kind}: the reader at the tail saw nothing")
        return
    together_us = clients.measured_cpu(report, took) / report["requests"] * 1e6
    # One record a request: what reading adds to each, by how many of them a fetch brings.
    per_fetch_us = max(0.0, together_us - alone_us) * read["records"] / read["fetches"]
    per_second = report["requests_per_second"] * read["fetches"] / read["records"]
    reads = f"{load.name}, a consumer at the tail"
    this.put(f"{load.name}, nobody reads: CPU us/request", alone_us)
    this.put(f"{reads}: CPU us/request", together_us)
    this.put(f"{reads}: CPU us/fetch", per_fetch_us)
    this.put(f"{reads}: fetches/s", per_second)


def apache(this):
    """Apache's own performance tools, with their defaults: what the broker needs, what they say."""
    this.attempt("Apache's tools", lambda: _throughput(this))
    this.attempt("ProducerPerformance", lambda: _at_rate(this))
    this.attempt("EndToEndLatency", lambda: _end_to_end(this))


def _tool(this, name, *arguments):
    return clients.apache(
        name, *arguments, directory=this.broker.directory, pinned=this.args.pinned
    )


def _produce(this, topic, records, rate):
    words = ["--topic", topic, "--num-records", records, "--record-size", RECORD_BYTES]
    words += ["--throughput", rate, "--bootstrap-server", this.broker.bootstrap]
    words += ["--command-property", "acks=all"]
    return _tool(this, "ProducerPerformance", *words)


def _throughput(this):
    records = this.args.records or loads.APACHE_RECORDS
    gigabytes = records * RECORD_BYTES / GB
    with this.topic("apache", PARTITIONS) as topic:
        # Each attempt writes as much again; the reader takes the first part.
        out, took = this.measured("ProducerPerformance", lambda: _produce(this, topic, records, -1))
        name = "ProducerPerformance, 1 KiB records"
        this.put(f"{name}: CPU s/GB", took.cpu / gigabytes)
        this.put(f"{name}: MB/s", clients.produced(out)["mib"] * MIB / 1e6)
        words = ["--topic", topic, "--num-records", records, "--timeout", 30_000]
        words += ["--bootstrap-server", this.broker.bootstrap]
        out, took = this.measured(
            "ConsumerPerformance", lambda: _tool(this, "ConsumerPerformance", *words)
        )
        row = clients.consumed(out)
        read = row["data.consumed.in.MB"] * MIB / GB
        this.put("ConsumerPerformance: CPU s/GB", took.cpu / read)
        this.put("ConsumerPerformance: MB/s", row["fetch.MB.sec"] * MIB / 1e6)


def _at_rate(this):
    rate = loads.APACHE_RATE
    records = int(rate * max(4.0, this.args.seconds))
    with this.topic("apache-rate", PARTITIONS) as topic:
        out, _took = this.measured(
            "ProducerPerformance at a rate", lambda: _produce(this, topic, records, rate)
        )
    said = clients.produced(out)
    name = f"ProducerPerformance, {rate:,} records a second"
    for figure, key in (("mean", "mean"), ("p99", "p99"), ("p99.9", "p999")):
        this.put(f"{name}: {figure}, ms", said[key])


def _end_to_end(this):
    records = loads.APACHE_LATENCY_RECORDS
    with this.topic("end-to-end", 1) as topic:
        words = ["--bootstrap-server", this.broker.bootstrap, "--topic", topic]
        words += ["--num-records", records, "--producer-acks", "all", "--record-size", 100]
        out, took = this.measured("EndToEndLatency", lambda: _tool(this, "EndToEndLatency", *words))
    this.put("EndToEndLatency: mean, us", clients.end_to_end_mean(out) * 1000)
    this.put("EndToEndLatency: CPU us/record", took.cpu / records * 1e6)


def librdkafka(this):
    """Another code base with its own batching, in C."""
    records = this.args.records or loads.LIBRDKAFKA_RECORDS
    gigabytes = records * RECORD_BYTES / GB
    bootstrap, pinned = this.broker.bootstrap, this.args.pinned

    def run():
        with this.topic("librdkafka", PARTITIONS) as topic:
            for verb in ("produce", "consume"):
                client = partial(clients.librdkafka, verb, bootstrap, topic, records, pinned)
                seconds, took = this.measured(f"librdkafka {verb}s", client)
                name = f"librdkafka {verb}s 1 KiB records"
                this.put(f"{name}: CPU s/GB", took.cpu / gigabytes)
                this.put(f"{name}: MB/s", gigabytes * 1000 / seconds)

    this.attempt("librdkafka", run)
