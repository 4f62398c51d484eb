//! Feeds the codec towards servers with mutated responses, the rules of caching with mutated fields, the check of configs with
//! mutated files, and the import of nginx configs with mutated configs, and checks what must hold for any bytes whatever.
//!
//! Runs each for `FUZZ_SECONDS` (default 4, configs 1) from `FUZZ_SEED` (default 1); the same seed makes the same inputs. An input that
//! fails is saved and named; move it into `tests/fuzz/corpus/` with the fix, or a field to its seeds, where it is checked from
//! then on. There is no coverage to guide the mutations, so their outcomes do: an input that ends in a way not seen before is
//! mutated further. With `FUZZ_KEEP=1` such responses are also added to the corpus.
//!
//! ```text
//! FUZZ_SECONDS=600 FUZZ_SEED=7 cargo test --test fuzz -- --nocapture
//! ```
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    unreachable_pub,
    reason = "a test crate: what cannot go on fails, figures are printed"
)]

mod config;
mod fields;
mod mutation;
mod nginx;
mod property;
#[path = "../upstream_responses/mod.rs"]
#[allow(dead_code, reason = "only the bytes matter here")]
mod responses;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use mutation::Random;

/// Larger inputs only make fuzzing slow.
const MAX_LENGTH: usize = 4096;

#[test]
fn every_kept_input_holds_however_it_is_split() {
    for input in seeds() {
        let step = if input.len() < 300 {
            1
        } else {
            input.len() / 20
        };
        for cut in (1..input.len()).step_by(step) {
            checked(RESPONSES, &input, &[cut, usize::MAX]);
        }
    }
}

#[test]
fn mutated_inputs_hold() {
    explore(RESPONSES, seeds());
}

#[test]
fn mutated_fields_hold() {
    explore(FIELDS, fields::seeds());
}

#[test]
fn mutated_configs_hold() {
    explore(CONFIGS, config::seeds());
}

#[test]
fn mutated_nginx_configs_hold() {
    explore(NGINX, nginx::seeds());
}

type Mutate = fn(&mut Vec<u8>, &[Vec<u8>], &[&[u8]], &mut Random);

/// What is fuzzed.
#[derive(Clone, Copy)]
struct Target {
    name: &'static str,
    check: fn(&[u8], &[usize]) -> u64,
    mutate: Mutate,
    /// What its parser stumbles over.
    words: &'static [&'static [u8]],
    /// For how long it is fuzzed where nothing else is said.
    seconds: u64,
    /// Where inputs are kept that end in a new way, if they are.
    corpus: Option<&'static str>,
}

const RESPONSES: Target = Target {
    name: "responses",
    check: property::check,
    mutate: mutation::mutate,
    words: mutation::HTTP,
    seconds: 4,
    corpus: Some("tests/fuzz/corpus"),
};

/// Few and short, so that what is found is found again each time.
const FIELDS: Target = Target {
    name: "fields",
    check: fields::check,
    mutate: mutation::mutate,
    words: mutation::HTTP,
    seconds: 4,
    corpus: None,
};

/// The main file and one that it may include.
const CONFIGS: Target = Target {
    name: "configs",
    check: config::check,
    mutate: mutation::mutate,
    words: config::WORDS,
    seconds: 1,
    corpus: None,
};

const NGINX: Target = Target {
    name: "nginx",
    check: nginx::check,
    mutate: nginx::mutate,
    words: mutation::HTTP,
    seconds: 4,
    corpus: None,
};

fn explore(target: Target, seeds: Vec<Vec<u8>>) {
    let seconds = number("FUZZ_SECONDS", target.seconds);
    let seed = number("FUZZ_SEED", 1);
    println!("{}: FUZZ_SEED={seed} FUZZ_SECONDS={seconds}", target.name);
    let mut random = Random::new(seed);
    let mut corpus: Vec<_> = seeds
        .into_iter()
        .filter(|input| input.len() <= MAX_LENGTH)
        .collect();
    let mut outcomes = HashSet::new();
    for input in &corpus {
        outcomes.insert(checked(target, input, &[]));
    }
    let (kept, end) = (corpus.len(), Instant::now() + Duration::from_secs(seconds));
    let mut executions: u64 = 0;
    while !executions.is_multiple_of(64) || Instant::now() < end {
        executions += 1;
        let mut input = random.choose(&corpus).clone();
        for _ in 0..1 + random.below(6) {
            (target.mutate)(&mut input, &corpus, target.words, &mut random);
        }
        input.truncate(MAX_LENGTH);
        let cuts: Vec<_> = (0..1 + random.below(8))
            .map(|_| 1 + random.below(40))
            .collect();
        if outcomes.insert(checked(target, &input, &cuts)) {
            keep(target, &input);
            corpus.push(input);
        }
    }
    println!(
        "{}: {executions} executions, {} outcomes, {} inputs found beside {kept}",
        target.name,
        outcomes.len(),
        corpus.len() - kept
    );
}

/// Checks an input; one that fails is saved before the failure goes on.
fn checked(target: Target, input: &[u8], cuts: &[usize]) -> u64 {
    match catch_unwind(AssertUnwindSafe(|| (target.check)(input, cuts))) {
        Ok(outcome) => outcome,
        Err(failure) => {
            let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name(input));
            std::fs::write(&path, input).unwrap();
            println!(
                "cuts {cuts:?}, input saved as {}:\n{}",
                path.display(),
                input.escape_ascii()
            );
            resume_unwind(failure);
        }
    }
}

fn keep(target: Target, input: &[u8]) {
    let Some(corpus) = target.corpus else {
        return;
    };
    if std::env::var("FUZZ_KEEP").is_ok_and(|keep| keep == "1") {
        std::fs::write(in_crate(corpus).join(name(input)), input).unwrap();
    }
}

/// The kept inputs and the cases that the other tests know the outcome of.
fn seeds() -> Vec<Vec<u8>> {
    let corpus = RESPONSES.corpus.unwrap();
    let mut files: Vec<_> = std::fs::read_dir(in_crate(corpus))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    // The order of a directory differs from machine to machine.
    files.sort();
    let files = files.iter().map(|path| std::fs::read(path).unwrap());
    responses::cases()
        .into_iter()
        .map(|case| case.wire)
        .chain(files)
        .collect()
}

fn in_crate(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The same bytes, the same name.
fn name(input: &[u8]) -> String {
    format!("{:016x}.http", property::hash(&input))
}

fn number(variable: &str, default: u64) -> u64 {
    std::env::var(variable).map_or(default, |value| value.parse().unwrap())
}
