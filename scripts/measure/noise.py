"""How quiet the machine was: other processes, stolen time, and a fixed piece of work each round."""

from . import table

WORDS = {
    "arithmetic_ms": "arithmetic, ms",
    "copy_ms": "copying 1 GiB, ms",
    "wake_us": "waking another process and back, us",
}


def of(number, one):
    """What is kept of one broker's round."""
    return {
        "round": number,
        "kind": one.kind,
        "calibration": one.calibration,
        "others_cores": [round(cores, 3) for cores in one.others],
        "steal_cores": [round(cores, 3) for cores in one.steal],
        "kernel_cores": [round(cores, 3) for cores in one.kernel],
    }


def lines(found):
    """The noise in words, one line each."""
    told = found["noise"]
    said = []
    for key, words in WORDS.items():
        spread = table.Spread.of(one["calibration"][key] for one in told)
        if spread:
            share = 100 * (spread.high - spread.low) / spread.middle
            low, high = (
                f"{figure:.{table.digits(figure)}f}" for figure in (spread.low, spread.high)
            )
            said.append(
                f"fixed work before each start, {words}: {table.number(spread)} "
                f"({low} to {high}, a spread of {share:.0f} %)"
            )
    for key, words in (
        ("others_cores", "other processes"),
        ("steal_cores", "taken by the host"),
        ("kernel_cores", "the kernel's own threads"),
    ):
        spread = table.Spread.of(cores for one in told for cores in one[key])
        if spread:
            said.append(
                f"{words} during the loads: {spread.middle:.2f} cores "
                f"({spread.low:.2f} to {spread.high:.2f})"
            )
    if found["repeated"]:
        said.append(f"{len(found['repeated'])} loads were disturbed and repeated")
    for key, rate in found.get("shared", {}).items():
        words = "highest rate" if key == "rate" else key
        said.append(f"60 % of Apache Kafka's {words}: {rate:,.0f} requests a second")
    return said
