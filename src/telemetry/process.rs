//! The metrics that every Prometheus client exports about its process, read from `/proc/self`. What cannot be read is
//! left out.

use std::fs;

use super::exposition::Page;

/// Units of the kernel's answers.
#[derive(Clone, Copy, Debug)]
struct Units {
    ticks_per_second: u64,
    page_size: u64,
}

/// From `/proc/self/stat`, in its units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    /// Since the boot.
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

/// Writes the `process_*` families.
pub(super) fn write(page: &mut Page) {
    let stat = read("/proc/self/stat").as_deref().and_then(Stat::parse);
    let units = Units::of_kernel();
    let seconds = |ticks: u64| ticks as f64 / units.ticks_per_second as f64;
    let boot = read("/proc/stat").as_deref().and_then(boot_time);
    let start = stat.and_then(|stat| Some(boot? as f64 + seconds(stat.start_ticks)));

    page.counters(
        "process_cpu_seconds_total",
        "Total user and system CPU time spent in seconds.",
        |series| {
            stat.into_iter()
                .for_each(|stat| series.counter_of(&[], seconds(stat.cpu_ticks)));
        },
    );
    let gauges = [
        (
            "process_max_fds",
            "Maximum number of open file descriptors.",
            max_fds().map(|fds| fds as f64),
        ),
        (
            "process_open_fds",
            "Number of open file descriptors.",
            open_fds().map(|fds| fds as f64),
        ),
        (
            "process_resident_memory_bytes",
            "Resident memory size in bytes.",
            stat.map(|stat| stat.resident_pages.saturating_mul(units.page_size) as f64),
        ),
        (
            "process_start_time_seconds",
            "Start time of the process since unix epoch in seconds.",
            start,
        ),
        (
            "process_threads",
            "Number of OS threads in the process.",
            stat.map(|stat| stat.threads as f64),
        ),
        (
            "process_virtual_memory_bytes",
            "Virtual memory size in bytes.",
            stat.map(|stat| stat.virtual_bytes as f64),
        ),
    ];
    for (name, help, value) in gauges {
        page.gauges(name, help, |series| {
            value.into_iter().for_each(|value| series.gauge(&[], value))
        });
    }
}

impl Stat {
    /// The fields after the command's name, which is in parentheses and may hold anything, `)` and spaces included.
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_ascii_whitespace().collect();
        // proc(5) counts from 1, and two fields are cut off.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)?.saturating_add(field(15)?),
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

impl Units {
    /// From the auxiliary vector: pairs of words, `AT_PAGESZ` and `AT_CLKTCK` among them.
    fn of_kernel() -> Self {
        let mut units = Self {
            ticks_per_second: 100,
            page_size: 4096,
        };
        let vector = fs::read("/proc/self/auxv").unwrap_or_default();
        let (words, _) = vector.as_chunks::<{ size_of::<usize>() }>();
        let (pairs, _) = words.as_chunks::<2>();
        for [kind, value] in pairs {
            let value = usize::from_ne_bytes(*value) as u64;
            match usize::from_ne_bytes(*kind) {
                6 if value > 0 => units.page_size = value,
                17 if value > 0 => units.ticks_per_second = value,
                _ => (),
            }
        }
        units
    }
}

/// The `btime` of `/proc/stat`: when the machine was started, in seconds since the epoch.
fn boot_time(text: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix("btime "))?
        .trim()
        .parse()
        .ok()
}

fn open_fds() -> Option<usize> {
    // One of them is the directory that is being read.
    Some(
        fs::read_dir("/proc/self/fd")
            .ok()?
            .count()
            .saturating_sub(1),
    )
}

/// The soft limit; none where it is unlimited.
fn max_fds() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Nofile).current
}

fn read(path: &str) -> Option<String> {
    // The command's name in `stat` need not be UTF-8.
    Some(String::from_utf8_lossy(&fs::read(path).ok()?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_name_with_parentheses_does_not_shift_the_fields() {
        let line = "7 (we) ir (x) S 1 7 7 0 -1 4194560 1 0 0 0 250 50 0 0 20 0 9 0 1234 8192000 321 18446744073709551615";
        let expected = Stat {
            cpu_ticks: 300,
            threads: 9,
            start_ticks: 1234,
            virtual_bytes: 8_192_000,
            resident_pages: 321,
        };
        assert_eq!(Stat::parse(line), Some(expected));
    }

    #[test]
    fn broken_answers_of_the_kernel_are_left_out() {
        for line in [
            "",
            "7",
            "7 (weir)",
            "7 (weir) S 1 7",
            "7 (weir) S 1 7 7 0 -1 4194560 1 0 0 0 x 50 0 0 20 0 9 0 1 2 3",
        ] {
            assert_eq!(Stat::parse(line), None, "{line}");
        }
        assert_eq!(boot_time("cpu 1 2\nbtime 77\n"), Some(77));
        assert_eq!(boot_time("cpu 1 2\n"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_process_tells_of_itself() {
        let mut page = Page::default();
        write(&mut page);
        let text = page.into_text();
        for name in [
            "cpu_seconds_total",
            "open_fds",
            "resident_memory_bytes",
            "start_time_seconds",
            "threads",
        ] {
            assert!(
                text.contains(&format!("\nprocess_{name} ")),
                "{name} in\n{text}"
            );
        }
    }
}
