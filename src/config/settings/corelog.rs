//! Settings Apache Kafka does not have. All begin with `corelog.`.

use crate::config::setting::{Rule, Setting, boolean, flag, int, long, null, number, string, text};

/// The rows, sorted by name.
pub const ROWS: &[Setting] = &[
    int("corelog.cores", null()).between(1, 1024).high().works(
        "How many cores to run on, one thread each. Without it, every CPU the process may use.",
    ),
    string("corelog.durability", text("page-cache"))
        .rule(Rule::OneOf(&["page-cache", "sync"]))
        .high()
        .works(
            "When a write counts as done: `page-cache` once the kernel has it (it survives the \
             process, not the machine), `sync` once it is on disk. Requests that wait for the disk \
             share one sync.",
        ),
    long("corelog.flush.unsynced.bytes.max", number(268_435_456)).at_least(1_048_576).works(
        "What a partition may have written and not yet synced, in bytes. Beyond it its log is \
         synced in the background, so that a crash of the machine leaves little to check.",
    ),
    long("corelog.journal.bytes", number(67_108_864)).at_least(0).works(
        "Size of each of the two journal files of a core, in bytes; 0 for none. They are made when \
         an append must be on disk before it is answered (`corelog.durability=sync`, \
         `flush.messages=1`): one sync of the journal then serves all partitions of the core.",
    ),
    long("corelog.memory.group.bytes", number(1_073_741_824)).at_least(1_048_576).works(
        "Memory for groups, their members and their offsets, over all cores, in bytes, as far as \
         it can be told. When a core's share is nearly used up, new members and offsets of new \
         partitions are answered COORDINATOR_NOT_AVAILABLE, which clients try again; large ones \
         already when half of it is. What is there goes on. What the log has is loaded whatever \
         it comes to.",
    ),
    long("corelog.memory.request.bytes", number(268_435_456)).at_least(1_048_576).high().works(
        "Memory for requests being received or handled, over all cores, in bytes, and as much for \
         answers not sent yet. When it is used up, sockets are not read, and peers that stand in \
         the way for seconds are let go; a single request may be larger than the share of a core.",
    ),
    long("corelog.offsets.rewrite.bytes", number(16_777_216)).at_least(1024).works(
        "What is written to a partition of `__consumer_offsets`, in bytes, before the records that \
         still count are written again and all before them is let go. It takes at least four times \
         what was kept the last time.",
    ),
    boolean("corelog.pin.cores", flag(false)).works(
        "Whether each thread is bound to one CPU. Worth trying on machines where nothing else \
         runs; where CPUs are shared, the kernel can not move a thread away from a busy one then.",
    ),
    int("corelog.sendfile.bytes.min", number(32_768)).at_least(1).works(
        "Answers with at least this many bytes of one segment leave by sendfile; smaller ones are \
         copied, which is cheaper for them. In bytes.",
    ),
];
