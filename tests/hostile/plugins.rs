//! Plugins that are loaded as any other, and do harm when they run: core modules that no compiler would make.

use super::corpus::Verdict::{self, Fails, Refused};
use super::corpus::{Attack, Case, case};

/// A handler as a core module: what stands in it, and what its function answers with.
struct Module {
    /// Other definitions.
    more: &'static str,
    /// The memory's pages.
    memory: &'static str,
    /// What stands in `cabi_realloc`, which has to leave an address.
    realloc: &'static str,
    /// What stands in the handler, which has to leave the address of its answer.
    handle: &'static str,
    /// What runs when the answer was read.
    post: &'static str,
}

/// It acks: an answer of zeros.
const GOOD: Module = Module {
    more: "",
    memory: "4",
    realloc: "global.get $free (global.set $free (i32.add (global.get $free) (i32.and (i32.add (local.get 3) (i32.const 15)) (i32.const -16))))",
    handle: "i32.const 1024",
    post: "",
};
/// Stores the answer that has this many publications at this address, and leaves its address.
macro_rules! publications {
    ($at:literal, $count:literal) => {
        concat!(
            "(i32.store (i32.const 1040) (i32.const ",
            $at,
            ")) (i32.store (i32.const 1044) (i32.const ",
            $count,
            ")) ",
            "i32.const 1024"
        )
    };
}
const TIME: Verdict = Fails("time-limit", "the limit of");
/// Elements that a table may grow to when it is asked for more, again and again, until it is refused.
const GROW_TABLE: &str = "(loop $more (br_if $more (i32.ne (table.grow $t (ref.null func) (i32.const 10000)) (i32.const -1)))) \
     (if (i32.gt_u (table.size $t) (i32.const 65536)) (then (loop $l (br $l)))) unreachable";
/// The same of memory: what it asked for last is what it was refused.
const GROW_MEMORY: &str =
    "(loop $more (br_if $more (i32.ne (memory.grow (i32.const 16)) (i32.const -1)))) i32.const 1024";

/// Row, what it does, the module, the verdict.
fn modules() -> Vec<(&'static str, &'static str, Module, Verdict)> {
    let long = "(func $for_ever (loop $again (br $again)))";
    let deep = "(func $deep (call $deep))";
    let starts = "(start $for_ever) (func $for_ever (loop $again (br $again)))";
    vec![
        (
            "endless-start",
            "computes without end before it can be called",
            Module { more: starts, ..GOOD },
            Refused("cannot be instantiated: time-limit"),
        ),
        (
            "loop-around-the-call",
            "computes without end where its memory is asked for, or after its answer",
            Module { more: long, realloc: "call $for_ever i32.const 8", ..GOOD },
            TIME,
        ),
        ("loop-around-the-call", "", Module { more: long, post: "call $for_ever", ..GOOD }, TIME),
        (
            "trap-in-start",
            "traps or fills the stack before it can be called",
            Module { more: "(start $bad) (func $bad unreachable)", ..GOOD },
            Refused("cannot be instantiated: trap"),
        ),
        (
            "trap-in-start",
            "",
            Module { more: "(start $deep) (func $deep (call $deep))", ..GOOD },
            Refused("cannot be instantiated: trap"),
        ),
        (
            "deep-recursion-around-the-call",
            "fills the stack where its memory is asked for",
            Module { more: deep, realloc: "call $deep i32.const 8", ..GOOD },
            Fails("trap", "stack"),
        ),
        (
            "memory-from-the-start",
            "is made with more memory than it may have",
            Module { memory: "300", ..GOOD },
            Refused("cannot be instantiated: memory-limit"),
        ),
        (
            "memory-grown-by-hand",
            "takes memory until it gets no more, and goes on",
            Module { handle: GROW_MEMORY, ..GOOD },
            Verdict::Harmless,
        ),
        (
            "table-growth",
            "lets a table grow without end",
            Module { more: "(table $t 1 funcref)", handle: GROW_TABLE, ..GOOD },
            Fails("table-limit", "the limit of 100000"),
        ),
        (
            "answer-that-lies",
            "answers with addresses and lengths that are not its own",
            Module { handle: "i32.const -16", ..GOOD },
            Fails("trap", ""),
        ),
        ("answer-that-lies", "", Module { handle: "i32.const 1025", ..GOOD }, Fails("trap", "")),
        (
            "answer-that-lies",
            "",
            Module { handle: "(i32.store8 (i32.const 1024) (i32.const 77)) i32.const 1024", ..GOOD },
            Fails("trap", ""),
        ),
        (
            "answer-that-lies",
            "",
            Module { handle: "(i32.store8 (i32.const 1028) (i32.const 9)) i32.const 1024", ..GOOD },
            Fails("trap", ""),
        ),
        ("answer-that-lies", "", Module { handle: publications!(0, 10_000_000), ..GOOD }, Fails("trap", "")),
        ("answer-that-lies", "", Module { handle: publications!("-8", 1), ..GOOD }, Fails("trap", "")),
        ("answer-that-lies", "", Module { realloc: "i32.const -8", ..GOOD }, Fails("trap", "")),
        ("answer-that-lies", "", Module { realloc: "i32.const 1", ..GOOD }, Fails("trap", "")),
        (
            "text-that-is-none",
            "answers with text that is not UTF-8",
            Module {
                handle: "(i32.store8 (i32.const 1024) (i32.const 1)) (i32.store (i32.const 1028) (i32.const 2000)) \
                         (i32.store (i32.const 1032) (i32.const 4)) (i32.store (i32.const 2000) (i32.const -1)) i32.const 1024",
                ..GOOD
            },
            Fails("trap", ""),
        ),
        (
            "result-of-itself",
            "answers with 1 GB out of 4 MiB, named again and again",
            Module {
                memory: "64",
                // 256 publications at 4096, each with the same 4 MiB as its body.
                handle: "(local $at i32) (local.set $at (i32.const 4096)) \
                         (loop $next (i32.store (i32.add (local.get $at) (i32.const 20)) (i32.const 4194304)) \
                         (br_if $next (i32.lt_u (local.tee $at (i32.add (local.get $at) (i32.const 160))) (i32.const 45056)))) \
                         (i32.store (i32.const 1040) (i32.const 4096)) (i32.store (i32.const 1044) (i32.const 256)) i32.const 1024",
                ..GOOD
            },
            Fails("output-limit", "the limit of 4.0 MiB"),
        ),
    ]
}

pub fn cases() -> Vec<Case> {
    let modules = modules().into_iter();
    modules.map(|(name, what, module, verdict)| case(name, what, Attack::Plugin(module.bytes()), verdict)).collect()
}

impl Module {
    fn bytes(&self) -> Vec<u8> {
        let Self { more, memory, realloc, handle, post } = self;
        let text = format!(
            r#"(module
  (memory (export "memory") {memory})
  (global $free (mut i32) (i32.const 65536))
  (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) {realloc})
  (func (export "wabbit:worker/handler@0.1.0#handle") (param i32) (result i32) {handle})
  (func (export "cabi_post_wabbit:worker/handler@0.1.0#handle") (param i32) {post})
  {more})"#
        );
        wat::parse_str(&text).unwrap_or_else(|error| panic!("{error}\n{text}"))
    }
}
