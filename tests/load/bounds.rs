//! What is called good: the figures held against each case, and how a case's figure is read.

use crate::measure::Measured;

/// Which figure of a case.
#[derive(Clone, Copy)]
pub(crate) enum Figure {
    /// Requests a second; more is better.
    Rate,
    /// MiB a second; more is better.
    Throughput,
    /// The server's CPU a request, ms.
    CpuMs,
    /// The server's CPU for each of the 1,000 entries of a page, µs.
    CpuEntryUs,
    /// The server's CPU for each GiB moved, s.
    CpuGib,
    /// Syncs of the log a request.
    Syncs,
}

/// One line of the table: what it must keep and what it should, from below or above as the figure has it.
pub(crate) struct Bound {
    pub(crate) what: &'static str,
    pub(crate) case: &'static str,
    pub(crate) figure: Figure,
    pub(crate) must: Option<f64>,
    pub(crate) should: Option<f64>,
}

const fn bound(
    what: &'static str,
    case: &'static str,
    figure: Figure,
    must: Option<f64>,
    should: Option<f64>,
) -> Bound {
    Bound { what, case, figure, must, should }
}

/// With a small store.
const SMALL: &[Bound] = &[
    bound("PUT 4 KiB, 16 at once", "put-4k-c16", Figure::Rate, Some(3000.0), Some(6000.0)),
    bound("its CPU", "put-4k-c16", Figure::CpuMs, Some(0.30), Some(0.15)),
    bound("its syncs", "put-4k-c16", Figure::Syncs, None, Some(0.2)),
];

/// With a million objects.
const MILLION: &[Bound] = &[
    bound("PUT 4 KiB, 16 at once", "put-4k-c16", Figure::Rate, Some(2000.0), Some(4000.0)),
    bound("its CPU", "put-4k-c16", Figure::CpuMs, None, Some(0.22)),
    bound("its syncs", "put-4k-c16", Figure::Syncs, None, Some(0.2)),
];

const ALWAYS: &[Bound] = &[
    bound("PUT 4 KiB, one at a time", "put-4k-c1", Figure::Rate, None, None),
    bound("GET 4 KiB, 16 at once", "get-4k-c16", Figure::Rate, Some(12_000.0), Some(25_000.0)),
    bound("its CPU", "get-4k-c16", Figure::CpuMs, Some(0.10), Some(0.06)),
    bound("HEAD, 16 at once", "head-c16", Figure::Rate, Some(18_000.0), Some(30_000.0)),
    bound("its CPU", "head-c16", Figure::CpuMs, Some(0.07), Some(0.045)),
    bound("PUT 64 KiB, 8 at once", "put-64k-c8", Figure::Throughput, None, None),
    bound("PUT 1 MiB, 8 at once", "put-1m-c8", Figure::Throughput, Some(280.0), Some(380.0)),
    bound("PUT 64 MiB, 4 at once", "put-64m-c4", Figure::Throughput, Some(350.0), Some(500.0)),
    bound("its CPU", "put-64m-c4", Figure::CpuGib, Some(4.0), Some(3.3)),
    bound("the same, body not signed", "put-64m-c4-unsigned", Figure::Throughput, None, None),
    bound("its CPU", "put-64m-c4-unsigned", Figure::CpuGib, None, None),
    bound("PUT 64 MiB, one at a time", "put-64m-c1", Figure::Throughput, Some(300.0), Some(430.0)),
    bound(
        "multipart 256 MiB, 4 parts at once",
        "multipart-256m-c4",
        Figure::Throughput,
        Some(300.0),
        Some(450.0),
    ),
    bound("GET 64 MiB, 4 at once", "get-64m-c4", Figure::Throughput, Some(1800.0), Some(2400.0)),
    bound("its CPU", "get-64m-c4", Figure::CpuGib, Some(0.6), Some(0.45)),
    bound("GET 256 MiB, 4 at once", "get-256m-c4", Figure::Throughput, Some(1800.0), Some(2400.0)),
    bound("its CPU", "get-256m-c4", Figure::CpuGib, Some(0.6), Some(0.45)),
    bound("256 KiB out of 256 MiB, 4 at once", "range-256k-c4", Figure::Rate, None, None),
    bound("LIST, a page of 1,000, CPU", "list-1000-c1", Figure::CpuMs, Some(4.0), Some(3.0)),
    bound("LIST, a common prefix, CPU", "list-prefixes-c1", Figure::CpuEntryUs, Some(30.0), Some(10.0)),
    bound("DELETE, 16 at once", "delete-c16", Figure::Rate, None, None),
    bound("delete of 1,000 keys, CPU", "delete-1000-c1", Figure::CpuMs, Some(100.0), Some(60.0)),
    bound("REST: `upload/direct` of 4 KiB, 16 at once", "rest-direct-4k-c16", Figure::Rate, None, None),
    bound("its CPU", "rest-direct-4k-c16", Figure::CpuMs, None, None),
    bound("REST: `upload/direct` of 64 MiB, 4 at once", "rest-direct-64m-c4", Figure::Throughput, None, None),
    bound("its CPU", "rest-direct-64m-c4", Figure::CpuGib, None, None),
    bound("REST: TUS, 4 KiB, 16 at once", "rest-tus-4k-c16", Figure::Rate, None, None),
    bound("its CPU", "rest-tus-4k-c16", Figure::CpuMs, None, None),
    bound("REST: TUS, 64 MiB in one PATCH, 4 at once", "rest-tus-64m-c4", Figure::Throughput, None, None),
    bound("its CPU", "rest-tus-64m-c4", Figure::CpuGib, None, None),
    bound(
        "REST: a page of 25 files of `GET /api/files`, 4 at once",
        "rest-filing-list-c4",
        Figure::Rate,
        None,
        None,
    ),
    bound("its CPU", "rest-filing-list-c4", Figure::CpuMs, None, None),
    bound(
        "REST: `consume` of one account, 16 at once",
        "billing-consume-c16",
        Figure::Rate,
        Some(2000.0),
        None,
    ),
    bound("its CPU", "billing-consume-c16", Figure::CpuMs, None, None),
];

/// The lines that hold for a store into which so many objects were loaded first.
pub(crate) fn bounds(objects: usize) -> impl Iterator<Item = &'static Bound> {
    let small = if objects >= 1_000_000 { MILLION } else { SMALL };
    small.iter().chain(ALWAYS)
}

impl Figure {
    pub(crate) fn of(self, case: &Measured) -> Option<f64> {
        match self {
            Self::Rate => Some(case.rate()),
            Self::Throughput => Some(case.mib_per_s()),
            Self::CpuMs => case.cpu_us().map(|us| us / 1000.0),
            Self::CpuEntryUs => case.cpu_us().map(|us| us / 1000.0),
            Self::CpuGib => case.cpu_s_per_gib(),
            Self::Syncs => case.syncs(),
        }
    }

    fn is_floor(self) -> bool {
        matches!(self, Self::Rate | Self::Throughput)
    }

    /// Whether a figure keeps a bound.
    pub(crate) fn keeps(self, value: f64, bound: f64) -> bool {
        if self.is_floor() { value >= bound } else { value <= bound }
    }

    /// A figure in its unit.
    pub(crate) fn render(self, value: f64) -> String {
        match self {
            Self::Rate => format!("{value:.0}/s"),
            Self::Throughput => format!("{value:.0} MiB/s"),
            Self::CpuMs if value >= 1.0 => format!("{value:.1} ms"),
            Self::CpuMs => format!("{value:.3} ms"),
            Self::CpuEntryUs => format!("{value:.1} µs"),
            Self::CpuGib => format!("{value:.2} s/GiB"),
            Self::Syncs => format!("{value:.2}"),
        }
    }

    /// A bound in its unit.
    pub(crate) fn render_bound(self, value: f64) -> String {
        format!("{} {}", if self.is_floor() { "≥" } else { "≤" }, self.render(value))
    }
}
