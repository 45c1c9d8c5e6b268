//! What the routes take, for the OpenAPI document. Read by `rules`, which says what is wrong in the caller's language.

use utoipa::{IntoParams, ToSchema};

/// Of a list.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "the document's alone; `rules::asked` reads the query")]
pub(crate) struct List {
    /// Files of a page.
    #[param(minimum = 1, maximum = 100, default = 15)]
    per_page: Option<u32>,
    /// The page.
    #[param(minimum = 1, default = 1)]
    page: Option<u64>,
    /// Part of the name.
    #[param(max_length = 255)]
    search: Option<String>,
    /// The MIME type.
    mime_type: Option<String>,
    /// The number of the user who wrote them.
    uploaded_by: Option<u64>,
    /// The category.
    category: Option<CategoryName>,
    /// The client.
    client_id: Option<String>,
    /// From this day on (YYYY-MM-DD).
    #[param(format = Date)]
    date_from: Option<String>,
    /// Up to and with this day (YYYY-MM-DD).
    #[param(format = Date)]
    date_to: Option<String>,
    /// What they are ordered by.
    #[param(inline)]
    sort_by: Option<SortName>,
    /// In which direction.
    #[param(inline)]
    sort_direction: Option<Direction>,
}

/// The categories.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "the document's alone")]
pub(crate) enum CategoryName {
    Devis,
    Facture,
    Contrat,
    Document,
    Image,
    Autre,
}

/// What lists are ordered by.
#[derive(ToSchema)]
#[schema(rename_all = "snake_case")]
#[expect(dead_code, reason = "the document's alone")]
pub(crate) enum SortName {
    UploadedAt,
    FileName,
    SizeBytes,
    MimeType,
    Category,
}

/// Directions.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
#[expect(dead_code, reason = "the document's alone")]
pub(crate) enum Direction {
    Asc,
    Desc,
}

/// The form of an upload.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document's alone; `upload` reads the form")]
pub(crate) struct Upload {
    /// The file, 10 MB at most unless configured otherwise.
    #[schema(value_type = String, format = Binary)]
    file: Vec<u8>,
    /// The name shown; the file's own where it is not given.
    #[schema(max_length = 255)]
    file_name: Option<String>,
    /// Its category.
    category: CategoryName,
    /// The client it is for.
    client_id: Option<String>,
    /// Its subcategory; becomes a slug.
    #[schema(max_length = 100)]
    subcategory: Option<String>,
    /// Its description.
    #[schema(max_length = 500)]
    description: Option<String>,
    /// Its tags, `tags[]` in a form: 10 of 50 characters at most.
    #[schema(max_items = 10)]
    tags: Option<Vec<String>>,
    /// Open to everyone.
    is_public: Option<bool>,
}

/// A change: what is not given stays.
#[derive(ToSchema)]
#[expect(dead_code, reason = "the document's alone; `rules::about` reads the fields")]
pub(crate) struct Update {
    /// The name shown.
    #[schema(max_length = 255)]
    file_name: Option<String>,
    /// Its description.
    #[schema(max_length = 500)]
    description: Option<String>,
    /// Its tags, all of them.
    #[schema(max_items = 10)]
    tags: Option<Vec<String>>,
    /// Open to everyone.
    is_public: Option<bool>,
    /// Moves it to a category.
    category: Option<CategoryName>,
    /// Moves it to a client; null: to none.
    client_id: Option<String>,
    /// Moves it to a subcategory; null: to none.
    #[schema(max_length = 100)]
    subcategory: Option<String>,
}
