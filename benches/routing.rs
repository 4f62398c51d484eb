//! Finding the route of a request: 10,000 routes must cost what 10 cost.
#![allow(clippy::unwrap_used, reason = "what cannot go on fails")]

use std::fmt::Write as _;
use std::hint::black_box;
use std::path::Path;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use http::{HeaderMap, HeaderValue};
use weir::config::{self, Config};
use weir::internals::Routes;

/// That many routes over a hundred hosts.
fn config(routes: usize) -> Config {
    let mut text = "[listen.web]\naddress = \":0\"\n".to_owned();
    for number in 0..routes {
        let host = number % 100;
        writeln!(
            text,
            "[route.r{number}]\nhost = \"h{host}.example\"\npath = \"/service/p{number}\"\nrespond = {{ status = 204 }}"
        )
        .unwrap();
    }
    config::parse(&text, Path::new("bench.toml")).unwrap()
}

fn routing(criterion: &mut Criterion) {
    let mut headers = HeaderMap::new();
    headers.insert("user-agent", HeaderValue::from_static("bench"));
    let mut find = criterion.benchmark_group("find");
    for count in [10, 10_000] {
        let routes = Routes::of(&config(count));
        let (host, path) = (
            format!("h{}.example", 7 % count),
            format!("/service/p{}/users/42/orders", count - 3),
        );
        let host = if count == 10 {
            host
        } else {
            format!("h{}.example", (count - 3) % 100)
        };
        assert_eq!(routes.find(&host, &path, &headers), Some(count - 3));
        find.bench_with_input(
            BenchmarkId::new("a deep path", count),
            &routes,
            |bencher, routes| {
                bencher
                    .iter(|| black_box(routes.find(black_box(&host), black_box(&path), &headers)));
            },
        );
        find.bench_with_input(
            BenchmarkId::new("nothing", count),
            &routes,
            |bencher, routes| {
                bencher.iter(|| {
                    black_box(routes.find(black_box("other.example"), black_box(&path), &headers))
                });
            },
        );
    }
    find.finish();
    let config = config(10_000);
    criterion.bench_function("arrange 10000 routes", |bencher| {
        bencher.iter(|| black_box(Routes::of(&config)))
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = routing
}
criterion_main!(benches);
