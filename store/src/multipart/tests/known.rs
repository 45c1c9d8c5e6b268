//! Bytes are stored once, parts or not, as soon as their digest is known.

use std::sync::Arc;

use super::*;
use crate::get::GetObject;
use crate::object::Digest;

async fn upload(o: &Opened, at: &At, contents: &[Vec<u8>]) -> Stored {
    let upload = create(o, at, None).await;
    let mut parts = Vec::new();
    for (n, content) in (1..).zip(contents) {
        parts.push(part(o, at, upload, n, content.clone()).await);
    }
    complete(o, at, upload, &parts).await.unwrap()
}

/// What the head names once no digest is pending.
async fn settled(o: &Opened, at: &At) -> Vec<Extent> {
    o.store.digest_pending().await.unwrap();
    let head = o.head(at).await.unwrap();
    assert!(matches!(head.sha256, Digest::Known(_)));
    match head.manifest {
        Manifest::Inline(extents) => extents,
        Manifest::Paged { .. } => panic!("paged"),
    }
}

#[tokio::test]
async fn an_upload_becomes_the_blob_that_its_bytes_are() {
    for (first, second) in
        [("bucket", "bucket"), ("files", "files"), ("files", "bucket"), ("bucket", "files")]
    {
        let o = Opened::new().await;
        let (a, b, c) =
            (at(first, "general/devis/a"), at(second, "general/devis/b"), at(first, "general/devis/c"));
        let contents = [bytes(1, MIN), bytes(2, 777)];
        let (whole, size) = (contents.concat(), MIN as u64 + 777);
        let expected =
            Extent { blob: BlobId::Content(digest(&Wanted::default(), &whole).sha256), offset: 0, len: size };
        upload(&o, &a, &contents).await;
        assert_eq!(settled(&o, &a).await, vec![expected.clone()]);
        upload(&o, &b, &contents).await;
        assert_eq!(settled(&o, &b).await, vec![expected.clone()]);
        o.put(&c, whole.clone()).await;
        for at in [&a, &b, &c] {
            assert_eq!(o.get(at, None).await, whole);
        }
        o.store.gc(true).await.unwrap();
        assert_eq!(o.files().len(), 1, "stored once");
        assert!(o.store.check().await.unwrap().findings.is_empty());
        assert!(o.store.scrub(u64::MAX).await.unwrap().damaged.is_empty());
        for at in [a, b, c] {
            let delete = crate::delete::DeleteObject { at, version: None, conditions: Conditions::default() };
            o.store.delete(&o.cx, delete).await.unwrap();
        }
        assert_nothing_stored(&o).await;
    }
}

#[tokio::test]
async fn a_parts_file_that_others_use_stays_what_it_is() {
    let o = Opened::new().await;
    // Without the background's digests: the copy is there before the first is hashed.
    o.store.close().await.unwrap();
    let (a, b) = (at("bucket", "a"), at("bucket", "b"));
    let contents = [bytes(1, MIN), bytes(2, 777)];
    let stored = upload(&o, &a, &contents).await;
    let copy = crate::copy::CopyObject {
        source: a.clone(),
        source_version: None,
        source_conditions: Conditions::default(),
        target: b.clone(),
        target_conditions: Conditions::default(),
        attributes: None,
        tags: None,
        compute: None,
    };
    o.store.copy(&o.cx, copy).await.unwrap();
    let parts = BlobId::Parts(UploadId(stored.version.id.0));
    for at in [&a, &b] {
        let extents = settled(&o, at).await;
        assert_eq!(extents.iter().map(|e| e.blob).collect::<Vec<_>>(), vec![parts]);
        assert_eq!(o.get(at, None).await, contents.concat());
    }
    assert!(o.store.check().await.unwrap().findings.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_see_no_seam_while_a_parts_file_becomes_content() {
    let o = Arc::new(Opened::new().await);
    let contents = [bytes(1, MIN), bytes(2, 777)];
    let whole = contents.concat();
    for n in 0..10 {
        let at = at("bucket", &n.to_string());
        o.store.close().await.unwrap();
        upload(&o, &at, &contents).await;
        let digests = o.store.digest_pending();
        let reads = async {
            for _ in 0..20 {
                let get = GetObject {
                    at: at.clone(),
                    version: None,
                    conditions: Conditions::default(),
                    range: Some(RangeRequest::FromTo(MIN as u64 - 10, MIN as u64 + 9)),
                };
                let (_, stream) = o.store.get(&o.cx, get).await.unwrap();
                let read = crate::blob::rig::collect(stream).await.unwrap();
                assert_eq!(read, whole[MIN - 10..MIN + 10]);
            }
        };
        let (digests, ()) = tokio::join!(digests, reads);
        digests.unwrap();
        // The next one is the first of its bytes again.
        let delete = crate::delete::DeleteObject { at, version: None, conditions: Conditions::default() };
        o.store.delete(&o.cx, delete).await.unwrap();
        o.store.gc(true).await.unwrap();
    }
}
