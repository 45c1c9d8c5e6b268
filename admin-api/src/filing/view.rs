//! Filing's JSON, field by field as the document has it (contract §5.4, D25).

use std::collections::BTreeMap;

use coffre_store::filing::{Amount, FilePage, Filed, Statistics};
use coffre_store::object::Digest;
use coffre_store::scheme::Category;
use serde::Serialize;
use utoipa::ToSchema;

use super::name::{Zone, divide, size};
use super::rules::shown_tag;

/// Who wrote a file, as it is shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Uploader {
    pub(crate) serial: Option<u64>,
    pub(crate) name: Option<String>,
}

/// A file: the documented keys first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct FileView {
    #[schema(example = 1)]
    id: u64,
    #[schema(example = "document.pdf")]
    file_name: String,
    #[schema(example = "application/pdf")]
    mime_type: String,
    #[schema(example = 1_024_000)]
    size_bytes: u64,
    #[schema(example = "1000.00 KB")]
    size_formatted: String,
    #[schema(example = "pdf")]
    extension: String,
    #[schema(example = "client/123/devis/DEVIS_2024_12_01_10_30_45.pdf")]
    storage_uri: String,
    #[schema(example = "client/123/devis/DEVIS_2024_12_01_10_30_45.pdf")]
    organized_path: String,
    /// Null while a file of many parts has not been read through yet.
    #[schema(example = "abc123...")]
    sha256: Option<String>,
    /// The number of the user who wrote it.
    #[schema(example = 1)]
    uploaded_by: Option<u64>,
    #[schema(example = "John Doe")]
    uploader_name: Option<String>,
    #[schema(example = "2024-12-01 10:30:45")]
    uploaded_at: String,
    #[schema(example = false)]
    is_image: bool,
    #[schema(example = true)]
    is_pdf: bool,
    #[schema(example = "devis")]
    category: &'static str,
    #[schema(example = "general")]
    subcategory: String,
    description: Option<String>,
    tags: Vec<String>,
    is_public: bool,
    client_id: Option<String>,
}

/// What an upload answers.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct UploadedView {
    #[schema(example = 1)]
    id: u64,
    #[schema(example = "document.pdf")]
    file_name: String,
    #[schema(example = "application/pdf")]
    mime_type: String,
    #[schema(example = 1_024_000)]
    size_bytes: u64,
    #[schema(example = "client/123/devis/annual/document_2024_12_01_10_30_45.pdf")]
    storage_uri: String,
    #[schema(example = "devis")]
    category: &'static str,
    #[schema(example = "annual")]
    subcategory: String,
    #[schema(example = "2024-12-01 10:30:45")]
    uploaded_at: String,
}

/// A page of a list.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct PageView {
    data: Vec<FileView>,
    pagination: PaginationView,
    summary: SummaryView,
}

/// Where a page stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct PaginationView {
    #[schema(example = 1)]
    current_page: u64,
    #[schema(example = 1)]
    from: Option<u64>,
    #[schema(example = 5)]
    last_page: u64,
    #[schema(example = 15)]
    per_page: usize,
    #[schema(example = 15)]
    to: Option<u64>,
    #[schema(example = 75)]
    total: u64,
    #[schema(example = true)]
    has_more_pages: bool,
}

/// The page summed up.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct SummaryView {
    #[schema(example = 15)]
    total_files: usize,
    #[schema(example = 15_360_000)]
    total_size: u64,
    #[schema(example = "14.65 MB")]
    total_size_formatted: String,
    categories: BTreeMap<&'static str, CategorySumView>,
}

/// A category of the page.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct CategorySumView {
    #[schema(example = 8)]
    count: u64,
    #[schema(example = "8.24 MB")]
    total_size_formatted: String,
}

/// How much there is.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct StatisticsView {
    #[schema(example = 150)]
    total_files: u64,
    #[schema(example = 1_073_741_824)]
    total_size_bytes: u64,
    #[schema(example = "1.00 GB")]
    total_size_formatted: String,
    by_type: BTreeMap<String, AmountView>,
    by_category: BTreeMap<&'static str, AmountView>,
}

/// How many, and their sizes together.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct AmountView {
    #[schema(example = 85)]
    count: u64,
    #[schema(example = 734_003_200)]
    total_size: u64,
}

/// A category and subcategory.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct BranchView {
    #[schema(example = "devis")]
    pub(crate) category: &'static str,
    #[schema(example = "general")]
    pub(crate) subcategory: String,
    pub(crate) files: Vec<FileView>,
    #[schema(example = 25)]
    pub(crate) count: u64,
}

/// Where a file can be fetched.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct DownloadView {
    #[schema(example = "/storage/client/123/devis/document_2024_12_01_10_30_45.pdf")]
    pub(crate) download_url: String,
    #[schema(example = "document.pdf")]
    pub(crate) file_name: String,
    #[schema(example = "application/pdf")]
    pub(crate) mime_type: String,
}

/// Data alone.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Data<T> {
    pub(crate) data: T,
}

/// Data with a sentence.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Said<T> {
    pub(crate) data: T,
    pub(crate) message: &'static str,
}

/// A sentence.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct Sentence {
    pub(crate) message: &'static str,
}

/// What is wrong.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub(crate) struct ErrorView {
    #[schema(example = "Les données fournies ne sont pas valides.")]
    message: String,
    /// By field, when fields are not valid.
    errors: Option<BTreeMap<String, Vec<String>>>,
}

impl FileView {
    pub(crate) fn of(file: &Filed, uploader: Uploader, zone: &Zone) -> Self {
        let (mime_type, attributes) = (file.mime(), &file.version.attributes);
        let extension = divide(&file.place.name).1.or(divide(file.file_name()).1).unwrap_or_default();
        Self {
            id: file.serial,
            file_name: file.file_name().to_owned(),
            size_bytes: file.version.size_bytes,
            size_formatted: size(file.version.size_bytes),
            extension: extension.to_ascii_lowercase(),
            storage_uri: file.key.as_str().to_owned(),
            organized_path: file.key.as_str().to_owned(),
            sha256: match file.version.sha256 {
                Digest::Known(sha256) => Some(sha256.to_string()),
                Digest::Pending => None,
            },
            uploaded_by: uploader.serial,
            uploader_name: uploader.name,
            uploaded_at: zone.date_time(file.version.modified_ms),
            is_image: mime_type.starts_with("image/"),
            is_pdf: mime_type == "application/pdf",
            mime_type,
            category: file.place.category.as_str(),
            subcategory: file.place.shown_subcategory().to_owned(),
            description: attributes.description.clone(),
            tags: attributes.tags.iter().map(|(name, value)| shown_tag(name, value)).collect(),
            is_public: attributes.is_public,
            client_id: file.place.client.clone(),
        }
    }
}

impl UploadedView {
    pub(crate) fn of(file: &Filed, zone: &Zone) -> Self {
        Self {
            id: file.serial,
            file_name: file.file_name().to_owned(),
            mime_type: file.mime(),
            size_bytes: file.version.size_bytes,
            storage_uri: file.key.as_str().to_owned(),
            category: file.place.category.as_str(),
            subcategory: file.place.shown_subcategory().to_owned(),
            uploaded_at: zone.date_time(file.version.modified_ms),
        }
    }
}

impl PageView {
    /// Of a page, with its files as they are shown.
    pub(crate) fn of(page: &FilePage, data: Vec<FileView>, number: u64, per_page: usize) -> Self {
        Self { data, pagination: PaginationView::of(page, number, per_page), summary: SummaryView::of(page) }
    }
}

impl PaginationView {
    fn of(page: &FilePage, number: u64, per_page: usize) -> Self {
        let before = (number - 1).saturating_mul(per_page as u64);
        let here = page.files.len() as u64;
        let last_page = page.total.div_ceil(per_page.max(1) as u64).max(1);
        Self {
            current_page: number,
            from: (here > 0).then_some(before.saturating_add(1)),
            last_page,
            per_page,
            to: (here > 0).then_some(before.saturating_add(here)),
            total: page.total,
            has_more_pages: number < last_page,
        }
    }
}

impl SummaryView {
    fn of(page: &FilePage) -> Self {
        let mut sums: BTreeMap<Category, (u64, u64)> = BTreeMap::new();
        for file in &page.files {
            let (count, bytes) = sums.entry(file.place.category).or_default();
            *count += 1;
            *bytes += file.version.size_bytes;
        }
        let total_size = sums.values().map(|(_, bytes)| bytes).sum();
        let sum = |(category, (count, bytes)): (Category, (u64, u64))| {
            (category.as_str(), CategorySumView { count, total_size_formatted: size(bytes) })
        };
        Self {
            total_files: page.files.len(),
            total_size,
            total_size_formatted: size(total_size),
            categories: sums.into_iter().map(sum).collect(),
        }
    }
}

impl StatisticsView {
    pub(crate) fn of(statistics: &Statistics) -> Self {
        let amount = |amount: &Amount| AmountView { count: amount.files, total_size: amount.bytes };
        let by_type = statistics.by_type.iter().map(|(mime, sum)| (mime.clone(), amount(sum)));
        let by_category =
            statistics.by_category.iter().map(|(category, sum)| (category.as_str(), amount(sum)));
        Self {
            total_files: statistics.all.files,
            total_size_bytes: statistics.all.bytes,
            total_size_formatted: size(statistics.all.bytes),
            by_type: by_type.collect(),
            by_category: by_category.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn where_a_page_stands() {
        let page = |total| FilePage { files: Vec::new(), total };
        let empty = PaginationView::of(&page(0), 1, 15);
        let expected = PaginationView {
            current_page: 1,
            from: None,
            last_page: 1,
            per_page: 15,
            to: None,
            total: 0,
            has_more_pages: false,
        };
        assert_eq!(empty, expected);
        let beyond = PaginationView::of(&page(75), 9, 15);
        assert_eq!((beyond.from, beyond.last_page, beyond.has_more_pages), (None, 5, false));
        assert!(PaginationView::of(&page(75), 4, 15).has_more_pages);
        let summary = serde_json::to_value(SummaryView::of(&page(0))).unwrap();
        let expected =
            json!({"total_files": 0, "total_size": 0, "total_size_formatted": "0 B", "categories": {}});
        assert_eq!(summary, expected);
    }
}
