//! Previews of images: PNG, at most 600 by 400, kept for a while in memory and made again when they are gone.
//!
//! Promises: one is made at a time; a source over 50 MB or an image of more pixels than fit the memory set aside is not
//! tried; nobody waits longer than [`WAIT`]. Kept by content: a file that was overwritten has another preview. Leaves
//! out: PDFs and videos.

use std::collections::VecDeque;
use std::io::Cursor;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use coffre_store::condition::Conditions;
use coffre_store::get::GetObject;
use coffre_store::object::{At, Digest, Version};
use coffre_store::{Cx, Store};
use fast_image_resize::images::{TypedImage, TypedImageRef};
use fast_image_resize::pixels::{U8x3, U8x4};
use fast_image_resize::{PixelTrait, Resizer};
use futures_util::StreamExt as _;
use image::codecs::png::PngEncoder;
use image::metadata::Orientation;
use image::{DynamicImage, ImageDecoder as _, ImageEncoder as _, ImageReader, Limits};
use tokio::sync::Semaphore;

/// The box a preview fits in.
const WIDTH: u32 = 600;
const HEIGHT: u32 = 400;
/// Largest source, as its peers have it.
const SOURCE_BYTES_MAX: u64 = 50_000_000;
/// Longest side of a source.
const SIDE_MAX: u32 = 20_000;
/// Most memory a decoder may take: some 22 million pixels of three bytes.
const DECODED_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// Most bytes of previews kept.
const KEPT_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long an answer waits for a preview (contract §5.6).
const WAIT: Duration = Duration::from_secs(10);

/// A preview.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Preview {
    pub(crate) png: Bytes,
    pub(crate) width: u32,
    pub(crate) height: u32,
}

/// How far a preview is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    /// There it is.
    Made(Arc<Preview>),
    /// There is none of this kind of file.
    None,
    /// It is an image and cannot be read.
    Failed,
    /// Not yet.
    Waiting,
}

/// What names content: its digest, or until that is known the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Name([u8; 32]);

/// The previews that are kept. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Previews {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Oldest use first.
    kept: Mutex<VecDeque<(Name, Option<Arc<Preview>>)>>,
    turn: Semaphore,
}

impl Default for Previews {
    fn default() -> Self {
        Self { inner: Arc::new(Inner { kept: Mutex::default(), turn: Semaphore::new(1) }) }
    }
}

impl Previews {
    /// The preview, waiting for it; it goes on being made when the wait is over.
    pub(crate) async fn wait(&self, store: &Store, cx: &Cx, at: &At, version: &Version) -> Status {
        let making = match self.start(store, cx, at, version) {
            Ok(making) => making,
            Err(status) => return status,
        };
        match tokio::time::timeout(WAIT, making).await {
            Ok(Ok(status)) => status,
            Ok(Err(_)) => Status::Failed,
            Err(_) => Status::Waiting,
        }
    }

    /// The preview if it is there, else it begins to be made.
    pub(crate) fn begin(&self, store: &Store, cx: &Cx, at: &At, version: &Version) -> Status {
        self.start(store, cx, at, version).map_or_else(|status| status, |_going_on| Status::Waiting)
    }

    /// Begins; what is known already is the `Err`.
    fn start(
        &self,
        store: &Store,
        cx: &Cx,
        at: &At,
        version: &Version,
    ) -> Result<tokio::task::JoinHandle<Status>, Status> {
        if !is_image(version) || version.size_bytes > SOURCE_BYTES_MAX {
            return Err(Status::None);
        }
        if let Some(known) = self.inner.find(Name::of(version)) {
            return Err(known);
        }
        let (previews, store, cx) = (self.clone(), store.clone(), cx.clone());
        let (at, version) = (at.clone(), version.clone());
        Ok(tokio::spawn(async move { previews.make(&store, &cx, at, &version).await }))
    }

    async fn make(&self, store: &Store, cx: &Cx, at: At, version: &Version) -> Status {
        let name = Name::of(version);
        let Ok(_turn) = self.inner.turn.acquire().await else { return Status::Failed };
        if let Some(known) = self.inner.find(name) {
            return known;
        }
        // A source that cannot be read now may be read later: nothing is kept.
        let Some(source) = read(store, cx, at, version).await else { return Status::Failed };
        let made = tokio::task::spawn_blocking(move || preview(&source)).await;
        let made = made.ok().flatten().map(Arc::new);
        self.inner.keep(name, made.clone());
        made.map_or(Status::Failed, Status::Made)
    }
}

impl Inner {
    fn find(&self, name: Name) -> Option<Status> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(known, _)| *known == name)?;
        let entry = kept.remove(at)?;
        let status = entry.1.clone().map_or(Status::Failed, Status::Made);
        kept.push_back(entry);
        Some(status)
    }

    fn keep(&self, name: Name, preview: Option<Arc<Preview>>) {
        // What failed is kept too, and costs as much as its entry.
        let bytes =
            |entry: &(Name, Option<Arc<Preview>>)| 64 + entry.1.as_ref().map_or(0, |made| made.png.len());
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_back((name, preview));
        let mut total: usize = kept.iter().map(bytes).sum();
        while total > KEPT_BYTES_MAX {
            let Some(oldest) = kept.pop_front() else { break };
            total -= bytes(&oldest);
        }
    }
}

impl Name {
    fn of(version: &Version) -> Self {
        match version.sha256 {
            Digest::Known(sha256) => Self(sha256.0),
            Digest::Pending => {
                let mut name = [0; 32];
                name.iter_mut().zip(version.id.0).for_each(|(byte, id)| *byte = id);
                Self(name)
            }
        }
    }
}

/// By its bytes, and where they were not looked at by what it says it is.
fn is_image(version: &Version) -> bool {
    let declared = version.attributes.content_type.as_deref();
    let kind = version.sniffed_type.as_deref().or(declared).unwrap_or_default();
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence.strip_prefix("image/").is_some_and(|format| !format.starts_with("svg"))
}

/// The version's bytes, whole; `None` when it has changed meanwhile or cannot be read.
async fn read(store: &Store, cx: &Cx, at: At, version: &Version) -> Option<Bytes> {
    let get = GetObject { at, version: None, conditions: Conditions::default(), range: None };
    let (found, mut stream) = store.get(cx, get).await.ok()?;
    if found.version.id != version.id {
        return None;
    }
    let mut all = BytesMut::new();
    while let Some(piece) = stream.next().await {
        all.extend_from_slice(&piece.ok()?);
    }
    Some(all.freeze())
}

/// The preview of an image's bytes; `None` for what is none, is damaged or too large.
fn preview(source: &[u8]) -> Option<Preview> {
    let mut reader = ImageReader::new(Cursor::new(source)).with_guessed_format().ok()?;
    let mut limits = Limits::default();
    limits.max_image_width = Some(SIDE_MAX);
    limits.max_image_height = Some(SIDE_MAX);
    limits.max_alloc = Some(DECODED_BYTES_MAX);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().ok()?;
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    if decoder.total_bytes() > DECODED_BYTES_MAX {
        return None;
    }
    let decoded = DynamicImage::from_decoder(decoder).ok()?;
    let (width, height) = fit(decoded.width(), decoded.height(), is_turned(orientation));
    let mut small = shrink(decoded, width, height)?;
    small.apply_orientation(orientation);
    let mut png = Vec::new();
    let encoder = PngEncoder::new(&mut png);
    encoder.write_image(small.as_bytes(), small.width(), small.height(), small.color().into()).ok()?;
    Some(Preview { png: png.into(), width: small.width(), height: small.height() })
}

/// As three or four bytes a pixel: for most images without a copy at their full size.
fn shrink(decoded: DynamicImage, width: u32, height: u32) -> Option<DynamicImage> {
    let from = (decoded.width(), decoded.height());
    if decoded.color().has_alpha() {
        let small = resize::<U8x4>(&decoded.into_rgba8().into_raw(), from, (width, height))?;
        image::RgbaImage::from_raw(width, height, small).map(DynamicImage::ImageRgba8)
    } else {
        let small = resize::<U8x3>(&decoded.into_rgb8().into_raw(), from, (width, height))?;
        image::RgbImage::from_raw(width, height, small).map(DynamicImage::ImageRgb8)
    }
}

/// The pixels at another size. (The library's untyped function would bring its kernels for every kind of pixel, which
/// takes minutes to compile.)
fn resize<P: PixelTrait>(pixels: &[u8], from: (u32, u32), to: (u32, u32)) -> Option<Vec<u8>> {
    let source = TypedImageRef::<P>::from_buffer(from.0, from.1, pixels).ok()?;
    let mut small = vec![0; usize::try_from(to.0).ok()? * usize::try_from(to.1).ok()? * P::size()];
    let mut target = TypedImage::<P>::from_buffer(to.0, to.1, &mut small).ok()?;
    Resizer::new().resize_typed(&source, &mut target, None).ok()?;
    Some(small)
}

/// Whether the orientation swaps width and height.
fn is_turned(orientation: Orientation) -> bool {
    matches!(
        orientation,
        Orientation::Rotate90
            | Orientation::Rotate270
            | Orientation::Rotate90FlipH
            | Orientation::Rotate270FlipH
    )
}

/// The size, before it is turned, that fits the box with the shape kept; nothing is enlarged.
fn fit(width: u32, height: u32, is_turned: bool) -> (u32, u32) {
    let (most_wide, most_high) = if is_turned { (HEIGHT, WIDTH) } else { (WIDTH, HEIGHT) };
    if width <= most_wide && height <= most_high {
        return (width.max(1), height.max(1));
    }
    let (w, h) = (u64::from(width.max(1)), u64::from(height.max(1)));
    let side = |n: u64| u32::try_from(n).unwrap_or(1).max(1);
    // Which side reaches the box first.
    if w * u64::from(most_high) >= h * u64::from(most_wide) {
        (most_wide, side((h * u64::from(most_wide) + w / 2) / w))
    } else {
        (side((w * u64::from(most_high) + h / 2) / h), most_high)
    }
}

#[cfg(test)]
mod tests {
    use image::{ImageFormat, RgbImage};

    use super::*;

    #[test]
    fn sizes_fit_the_box() {
        for (width, height, turned, fitted) in [
            (600, 400, false, (600, 400)),
            (100, 50, false, (100, 50)),
            (1200, 800, false, (600, 400)),
            (4000, 1000, false, (600, 150)),
            (1000, 4000, false, (100, 400)),
            (1200, 800, true, (400, 267)),
            (20_000, 1, false, (600, 1)),
            (1, 20_000, false, (1, 400)),
        ] {
            assert_eq!(fit(width, height, turned), fitted, "{width}x{height}");
        }
    }

    fn encoded(width: u32, height: u32, format: ImageFormat) -> Vec<u8> {
        let image = RgbImage::from_fn(width, height, |x, _| {
            if x < width / 2 { [255, 0, 0] } else { [0, 0, 255] }.into()
        });
        let mut bytes = Vec::new();
        image.write_to(&mut Cursor::new(&mut bytes), format).unwrap();
        bytes
    }

    #[test]
    fn images_become_small_pngs() {
        for format in
            [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::Gif, ImageFormat::Bmp, ImageFormat::WebP]
        {
            let made = preview(&encoded(1200, 300, format)).unwrap_or_else(|| panic!("{format:?}"));
            assert_eq!((made.width, made.height), (600, 150), "{format:?}");
            let back = image::load_from_memory_with_format(&made.png, ImageFormat::Png).unwrap().into_rgb8();
            assert_eq!(back.dimensions(), (600, 150));
            let (left, right) = (back.get_pixel(50, 75).0, back.get_pixel(550, 75).0);
            assert!(left[0] > 200 && left[2] < 50 && right[2] > 200 && right[0] < 50, "{format:?}");
        }
    }

    #[test]
    fn what_is_broken_or_too_large_has_none() {
        let good = encoded(64, 64, ImageFormat::Png);
        assert!(preview(&good).is_some());
        assert!(preview(&good[..good.len() / 2]).is_none());
        assert!(preview(b"no image").is_none());
        assert!(preview(b"").is_none());
        // A small file that says it is huge.
        let mut bomb = good;
        bomb[16..20].copy_from_slice(&19_000_u32.to_be_bytes());
        bomb[20..24].copy_from_slice(&19_000_u32.to_be_bytes());
        assert!(preview(&bomb).is_none());
    }

    #[test]
    fn the_oldest_use_goes_first() {
        let previews = Previews::default();
        let of = |n: u8| Name([n; 32]);
        let made = |len: usize| Some(Arc::new(Preview { png: vec![0; len].into(), width: 1, height: 1 }));
        previews.inner.keep(of(1), made(KEPT_BYTES_MAX / 2 - 100));
        previews.inner.keep(of(2), None);
        previews.inner.keep(of(3), made(KEPT_BYTES_MAX / 2 - 200));
        assert!(matches!(previews.inner.find(of(1)), Some(Status::Made(_))));
        assert_eq!(previews.inner.find(of(2)), Some(Status::Failed));
        previews.inner.keep(of(4), made(1000));
        assert_eq!(previews.inner.find(of(3)), None);
        assert!(previews.inner.find(of(1)).is_some() && previews.inner.find(of(4)).is_some());
    }
}
