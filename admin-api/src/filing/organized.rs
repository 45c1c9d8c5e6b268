//! The answer of `organized`, written branch by branch: files are read as their branch is sent, so that the memory it
//! takes is that of one branch, whatever their number.

use bytes::Bytes;
use coffre_store::Cx;
use coffre_store::filing::Branch;
use futures_util::{Stream, StreamExt as _};

use super::routes::shown;
use super::view::BranchView;
use super::words::{self, say};
use crate::Ground;
use crate::error::ApiError;
use crate::http::language::Language;

/// `{"data": {"category/subcategory": …}, "message": …}`.
pub(crate) fn stream(
    ground: Ground,
    cx: Cx,
    language: Language,
    branches: Vec<Branch>,
) -> impl Stream<Item = Result<Bytes, ApiError>> {
    let end = format!("}},\"message\":{}}}", serde_json::Value::from(say(language, words::ORGANIZED)));
    let pieces = futures_util::stream::iter(branches.into_iter().enumerate()).then(move |(n, branch)| {
        let (ground, cx) = (ground.clone(), cx.clone());
        async move { piece(&ground, &cx, n == 0, branch).await }
    });
    let begin = futures_util::stream::iter([Ok(Bytes::from_static(b"{\"data\":{"))]);
    begin.chain(pieces).chain(futures_util::stream::iter([Ok(Bytes::from(end))]))
}

async fn piece(ground: &Ground, cx: &Cx, is_first: bool, branch: Branch) -> Result<Bytes, ApiError> {
    let Branch { category, subcategory, count, serials } = branch;
    let mut files = Vec::with_capacity(serials.len());
    for file in &ground.store.filed_of(cx, &serials).await? {
        files.push(shown(ground, file).await?);
    }
    let name = serde_json::Value::from(format!("{}/{subcategory}", category.as_str()));
    let view = BranchView { category: category.as_str(), subcategory, files, count };
    let view = serde_json::to_string(&view).map_err(ApiError::internal)?;
    let comma = if is_first { "" } else { "," };
    Ok(format!("{comma}{name}:{view}").into())
}
