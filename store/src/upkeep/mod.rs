//! Looking after what is stored: gc, scrub, check, rebuild.

mod check;
pub(crate) mod gc;
mod manifests;
pub(crate) mod scrub;
mod survey;
#[cfg(test)]
mod tests;

/// What gc freed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Freed {
    /// Bytes of blobs removed.
    pub freed_bytes: u64,
    /// How many blobs.
    pub blobs: u64,
}

/// What scrub found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Scrubbed {
    /// Blobs read.
    pub blobs: u64,
    /// Bytes read.
    pub bytes: u64,
    /// SHA-256 (hex) of those whose bytes are not what they were; they are in quarantine now.
    pub damaged: Vec<String>,
}

/// One thing that check found wrong, in a sentence that names rows by table and hex key.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// What kind: `reference`, `usage`, `view`, `blob`, `record`, `manifest`, `orphan`.
    pub kind: &'static str,
    /// The sentence.
    pub message: String,
}

/// What check looked at and found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Checked {
    /// Versions looked at.
    pub versions: u64,
    /// Blobs looked at.
    pub blobs: u64,
    /// What is wrong; empty: nothing.
    pub findings: Vec<Finding>,
}
