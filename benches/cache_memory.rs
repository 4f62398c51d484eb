//! Whether the store stays within its bound when all of it changes all the time, and what it costs.
//!
//! ```sh
//! cargo bench --bench cache_memory                 # everything, some minutes
//! cargo bench --bench cache_memory -- 200000       # that many requests
//! ```
//!
//! Two threads ask for 200,000 objects of 100 B to 8 MiB, all orders of magnitude being as frequent; some are asked for
//! far more often than others (the n-th most popular one 1/n as often as the first). What is not found is put in, with a
//! body that is allocated anew. Exit: 0 fine, 1 if the process took more than 60 MiB beyond the size of the store.
//!
//! Then what it takes to find something, and to purge 100,000 responses while others are being found.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "it prints, and what cannot go on fails"
)]

#[path = "overload/random.rs"]
mod random;

use std::fs;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use random::Random;
use weir::internals::Store;

/// As in the program.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const MIB: u64 = 1 << 20;
const MAX_SIZE: u64 = 64 * MIB;
const BESIDE: u64 = 60 * MIB;
const OBJECTS: u64 = 200_000;
const SMALLEST: f64 = 100.0;
const LARGEST: f64 = (8 * MIB) as f64;
const THREADS: u64 = 2;

fn main() -> ExitCode {
    // Cargo adds `--bench`.
    let mut arguments = std::env::args().skip(1);
    let requests = arguments.find_map(|argument| argument.parse().ok());
    let rss = churn(requests.unwrap_or(2_000_000));
    finding();
    purging();
    if rss <= MAX_SIZE + BESIDE {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// The same for each object at all times; popular ones are of all sizes.
fn size(object: u64) -> usize {
    let share = Random::new(object).share();
    (SMALLEST * (LARGEST / SMALLEST).powf(share)) as usize
}

fn key(out: &mut Vec<u8>, object: u64) {
    out.clear();
    write!(out, "https://www.example.com/assets/object/{object}?v=1").unwrap();
}

fn on_a_runtime<T>(work: impl Future<Output = T>) -> T {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    runtime.enable_time().build().unwrap().block_on(work)
}

/// A line of `/proc/self/status`, in bytes.
fn memory(line: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let rest = status.lines().find_map(|each| each.strip_prefix(line));
    let kib = rest.unwrap().trim_matches([':', ' ', '\t', 'k', 'B']);
    kib.parse::<u64>().unwrap() << 10
}

fn churn(requests: u64) -> u64 {
    let store = Arc::new(Store::new(MAX_SIZE, 8 * MIB));
    let (hits, most) = (AtomicU64::new(0), AtomicU64::new(0));
    let begin = Instant::now();
    thread::scope(|scope| {
        for thread in 0..THREADS {
            let (store, hits, most) = (&store, &hits, &most);
            scope.spawn(move || {
                on_a_runtime(async {
                    let (mut random, mut name) = (Random::new(thread), Vec::new());
                    for _ in 0..requests / THREADS {
                        let object = (OBJECTS as f64).powf(random.share()) as u64;
                        key(&mut name, object);
                        if store.find(&name).await.is_some() {
                            hits.fetch_add(1, Ordering::Relaxed);
                        } else {
                            store.put(&name, size(object), "t").await;
                        }
                        most.fetch_max(store.bytes(), Ordering::Relaxed);
                    }
                });
            });
        }
    });
    let seconds = begin.elapsed().as_secs_f64();
    let rss = memory("VmHWM");
    on_a_runtime(store.maintain());
    let mib = |bytes: u64| bytes as f64 / MIB as f64;
    println!("{requests} requests in {seconds:.1} s");
    println!("process, at most:    {:7.1} MiB", mib(rss));
    println!("store, at most:      {:7.1} MiB", mib(most.into_inner()));
    println!("process, now:        {:7.1} MiB", mib(memory("VmRSS")));
    println!("store, now:          {:7.1} MiB", mib(store.bytes()));
    let hits = hits.into_inner() as f64 / requests as f64;
    println!("hits:                {:7.1} %", hits * 100.0);
    println!("entries now:         {:7}", store.entries());
    println!("evictions:           {:7}", store.evictions());
    rss
}

/// What is asked for again and again, by one thread and by two.
fn finding() {
    const FINDS: u64 = 2_000_000;
    let store = Store::new(MAX_SIZE, MIB);
    let names: Vec<_> = (0..1000)
        .map(|object| {
            let mut name = Vec::new();
            key(&mut name, object);
            name
        })
        .collect();
    on_a_runtime(async {
        for name in &names {
            store.put(name, 1024, "t").await;
        }
    });
    for threads in 1..=THREADS {
        let begin = Instant::now();
        thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    on_a_runtime(async {
                        for name in names.iter().cycle().take(FINDS as usize) {
                            assert!(store.find(name).await.is_some());
                        }
                    });
                });
            }
        });
        let each = begin.elapsed().as_nanos() / u128::from(FINDS);
        println!("a find, {threads} threads:   {each:7} ns");
    }
}

fn purging() {
    const RESPONSES: u64 = 100_000;
    let all = |store: &Arc<Store>, tag| {
        on_a_runtime(async {
            let mut name = Vec::new();
            for object in 0..RESPONSES {
                key(&mut name, object);
                store.put(&name, 1024, tag).await;
            }
            key(&mut name, RESPONSES);
            store.put(&name, 5, "other").await;
        });
    };
    let control = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .build()
        .unwrap();
    let store = Arc::new(Store::new(1024 * MIB, MIB));
    for by_tag in [true, false] {
        all(&store, "many");
        let done = AtomicBool::new(false);
        let (count, seconds, finds, longest) = thread::scope(|scope| {
            let finder = scope.spawn(|| {
                on_a_runtime(async {
                    let mut name = Vec::new();
                    let (mut finds, mut longest) = (0_u64, Duration::ZERO);
                    key(&mut name, RESPONSES);
                    while !done.load(Ordering::Relaxed) {
                        let begin = Instant::now();
                        store.find(&name).await;
                        longest = longest.max(begin.elapsed());
                        finds += 1;
                    }
                    (finds, longest)
                })
            });
            let begin = Instant::now();
            let purging = Arc::clone(&store);
            let purge = async move {
                if by_tag {
                    purging.purge_tag("many").await
                } else {
                    purging.purge_all().await
                }
            };
            let count = control.block_on(control.spawn(purge)).unwrap();
            let seconds = begin.elapsed().as_secs_f64();
            done.store(true, Ordering::Relaxed);
            let (finds, longest) = finder.join().unwrap();
            (count, seconds, finds, longest)
        });
        let what = if by_tag { "by tag" } else { "all" };
        println!(
            "purge of {count} {what}: {seconds:.2} s; meanwhile {finds} finds, the longest {:.1} ms",
            longest.as_secs_f64() * 1000.0
        );
    }
}
