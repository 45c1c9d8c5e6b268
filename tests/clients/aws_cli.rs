//! aws-cli, both as PyPI has it now and as Debian ships it: `s3` and `s3api`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use coffre_tests::command::{fails, run};
use coffre_tests::daemon::Daemon;

use super::{many_files, sha256, tree, venv, with_credentials, write_file};

/// One of the two programs, with a folder of its own.
struct Cli {
    program: PathBuf,
    daemon: Daemon,
    folder: tempfile::TempDir,
}

impl Cli {
    fn new(program: PathBuf) -> Self {
        let folder = tempfile::tempdir().unwrap();
        // aws-cli 1 presigns with SigV2 in us-east-1 unless told; that is off (contract D37).
        fs::write(folder.path().join("aws-config"), "[default]\ns3 =\n  signature_version = s3v4\n").unwrap();
        let daemon = Daemon::start(&folder.path().join("data"));
        Self { program, daemon, folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn aws(&self, args: &[&str]) -> Command {
        let mut command = with_credentials(&self.daemon, self.folder.path(), &self.program);
        command.args(["--endpoint-url", &format!("http://{}", self.daemon.s3_address())]);
        command.args(args).current_dir(self.folder.path());
        command
    }

    #[track_caller]
    fn run(&self, args: &[&str]) -> String {
        run(&mut self.aws(args))
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> serde_json::Value {
        let out = self.run(&[args, &["--output", "json"]].concat());
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{args:?}: {e}\n{out}"))
    }
}

#[test]
fn current_cli_copies_syncs_moves_and_presigns() {
    copies_syncs_moves_and_presigns(&Cli::new(venv("aws")));
}

#[test]
fn debian_cli_copies_syncs_moves_and_presigns() {
    copies_syncs_moves_and_presigns(&Cli::new("/usr/bin/aws".into()));
}

#[test]
fn current_cli_s3api() {
    let cli = Cli::new(venv("aws"));
    s3api(&cli);
    conditional_writes(&cli);
}

#[test]
fn debian_cli_s3api() {
    s3api(&Cli::new("/usr/bin/aws".into()));
}

fn copies_syncs_moves_and_presigns(cli: &Cli) {
    cli.run(&["s3", "mb", "s3://b-one"]);
    for (name, len) in [("one", 1), ("five", 5 << 20), ("large", 300 << 20)] {
        write_file(&cli.path(name), len as u64, len);
        cli.run(&["s3", "cp", "--only-show-errors", name, &format!("s3://b-one/dir/{name}")]);
        let back = format!("{name}.back");
        cli.run(&["s3", "cp", "--only-show-errors", &format!("s3://b-one/dir/{name}"), &back]);
        assert_eq!(sha256(&cli.path(name)), sha256(&cli.path(&back)), "{name}");
        fs::remove_file(cli.path(&back)).unwrap();
    }

    // A copy on the server, moves in both directions, and what is gone is gone.
    cli.run(&["s3", "cp", "--only-show-errors", "s3://b-one/dir/large", "s3://b-one/copy of large"]);
    cli.run(&["s3", "mv", "--only-show-errors", "s3://b-one/copy of large", "moved"]);
    assert_eq!(sha256(&cli.path("large")), sha256(&cli.path("moved")));
    cli.run(&["s3", "mv", "--only-show-errors", "s3://b-one/dir/five", "s3://b-one/dir/été+5"]);
    fails(&mut cli.aws(&["s3", "cp", "s3://b-one/dir/five", "gone"]));
    let listed = cli.run(&["s3", "ls", "--recursive", "s3://b-one/"]);
    assert!(listed.contains("dir/été+5") && !listed.contains("dir/five"), "{listed}");

    let url = cli.run(&["s3", "presign", "--expires-in", "60", "s3://b-one/dir/été+5"]);
    run(Command::new("curl").args(["-sSf", "-o"]).arg(cli.path("curled")).arg(url.trim()));
    assert_eq!(sha256(&cli.path("five")), sha256(&cli.path("curled")));

    sync(cli);
    cli.run(&["s3", "rm", "--only-show-errors", "--recursive", "s3://b-one/"]);
    assert_eq!(cli.run(&["s3", "ls", "--recursive", "s3://b-one/"]).trim(), "");
    cli.run(&["s3", "rb", "s3://b-one"]);
    cli.daemon.check_finds_nothing();
}

/// 2,000 files there and back; a second sync moves nothing; a deletion is followed.
fn sync(cli: &Cli) {
    let (here, back) = (cli.path("here"), cli.path("back"));
    many_files(&here, 2_000);
    cli.run(&["s3", "sync", "--only-show-errors", "here", "s3://b-one/tree/"]);
    cli.run(&["s3", "sync", "--only-show-errors", "s3://b-one/tree/", "back"]);
    assert_eq!(tree(&here), tree(&back));
    assert_eq!(cli.run(&["s3", "sync", "here", "s3://b-one/tree/"]).trim(), "");
    let victim = tree(&here).remove(7).0;
    fs::remove_file(here.join(&victim)).unwrap();
    let said = cli.run(&["s3", "sync", "--delete", "here", "s3://b-one/tree/"]);
    assert!(
        said.contains("delete:") && said.contains(Path::new(&victim).file_name().unwrap().to_str().unwrap())
    );
}

fn s3api(cli: &Cli) {
    cli.run(&["s3api", "create-bucket", "--bucket", "b-api"]);
    let location = cli.json(&["s3api", "get-bucket-location", "--bucket", "b-api"]);
    assert!(location["LocationConstraint"].is_null(), "{location}");
    reads_with_conditions(cli);
    versions(cli);
    tags(cli);
    multipart_by_hand(cli);
    cli.daemon.check_finds_nothing();
}

const OBJECT: [&str; 4] = ["--bucket", "b-api", "--key", "k/é"];

fn object<'a>(operation: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
    [&["s3api", operation], &OBJECT[..], rest].concat()
}

fn reads_with_conditions(cli: &Cli) {
    fs::write(cli.path("hello"), b"hello, coffre").unwrap();
    let put = cli.json(&object(
        "put-object",
        &["--body", "hello", "--content-type", "text/plain", "--metadata", "colour=green"],
    ));
    let etag = put["ETag"].as_str().unwrap();
    let head = cli.json(&object("head-object", &[]));
    assert_eq!((head["ContentLength"].as_u64(), head["ETag"].as_str()), (Some(13), Some(etag)), "{head}");
    assert_eq!((&head["Metadata"]["colour"], &head["ContentType"]), (&"green".into(), &"text/plain".into()));
    cli.run(&object("get-object", &["--if-match", etag, "--range", "bytes=7-12", "out"]));
    assert_eq!(fs::read(cli.path("out")).unwrap(), b"coffre");
    let said = fails(&mut cli.aws(&object("get-object", &["--if-match", "\"0123\"", "out"])));
    assert!(said.contains("412") || said.contains("PreconditionFailed"), "{said}");
    let said = fails(&mut cli.aws(&object("get-object", &["--if-none-match", etag, "out"])));
    assert!(said.contains("304"), "{said}");
    let said = fails(&mut cli.aws(&["s3api", "head-object", "--bucket", "b-api", "--key", "nothing"]));
    assert!(said.contains("404"), "{said}");
}

fn conditional_writes(cli: &Cli) {
    let put = |key: &'static str, rest: &[&'static str]| {
        cli.aws(
            &[&["s3api", "put-object", "--bucket", "b-api", "--body", "hello", "--key", key], rest].concat(),
        )
    };
    let first = run(&mut put("once", &["--if-none-match", "*"]));
    assert!(first.contains("ETag"), "{first}");
    let said = fails(&mut put("once", &["--if-none-match", "*"]));
    assert!(said.contains("PreconditionFailed"), "{said}");
    let said = fails(&mut put("once", &["--if-match", "00000000000000000000000000000000"]));
    assert!(said.contains("PreconditionFailed"), "{said}");
}

fn versions(cli: &Cli) {
    let on = [
        "s3api",
        "put-bucket-versioning",
        "--bucket",
        "b-api",
        "--versioning-configuration",
        "Status=Enabled",
    ];
    cli.run(&on);
    fs::write(cli.path("second"), b"the second").unwrap();
    let second = cli.json(&object("put-object", &["--body", "second"]));
    let id = second["VersionId"].as_str().expect("a version id").to_owned();
    let marker = cli.json(&object("delete-object", &[]));
    assert_eq!(marker["DeleteMarker"], true, "{marker}");
    fails(&mut cli.aws(&object("get-object", &["out"])));
    cli.run(&object("get-object", &["--version-id", &id, "out"]));
    assert_eq!(fs::read(cli.path("out")).unwrap(), b"the second");
    cli.run(&object("get-object", &["--version-id", "null", "out"]));
    assert_eq!(fs::read(cli.path("out")).unwrap(), b"hello, coffre");
    let all = cli.json(&["s3api", "list-object-versions", "--bucket", "b-api", "--prefix", "k/"]);
    assert_eq!(all["Versions"].as_array().map(Vec::len), Some(2), "{all}");
    assert_eq!(all["DeleteMarkers"][0]["IsLatest"], true, "{all}");
    // Without its marker the key is back, with its newest version.
    let marker_id = marker["VersionId"].as_str().unwrap();
    cli.run(&object("delete-object", &["--version-id", marker_id]));
    cli.run(&object("get-object", &["out"]));
    assert_eq!(fs::read(cli.path("out")).unwrap(), b"the second");
}

fn tags(cli: &Cli) {
    cli.run(&object("put-object-tagging", &["--tagging", "TagSet=[{Key=project,Value=été}]"]));
    let tags = cli.json(&object("get-object-tagging", &[]));
    assert_eq!(tags["TagSet"], serde_json::json!([{"Key": "project", "Value": "été"}]));
    cli.run(&object("delete-object-tagging", &[]));
    assert_eq!(cli.json(&object("get-object-tagging", &[]))["TagSet"], serde_json::json!([]));
    cli.run(&["s3api", "put-bucket-tagging", "--bucket", "b-api", "--tagging", "TagSet=[{Key=a,Value=b}]"]);
    let tags = cli.json(&["s3api", "get-bucket-tagging", "--bucket", "b-api"]);
    assert_eq!(tags["TagSet"][0]["Value"], "b");
}

fn multipart_by_hand(cli: &Cli) {
    let begun = cli.json(&object("create-multipart-upload", &[]));
    let upload = begun["UploadId"].as_str().unwrap();
    let sizes = [(1, 5 << 20), (2, 5 << 20), (3, 1234)];
    let mut whole = Vec::new();
    let mut parts = Vec::new();
    for (number, len) in sizes {
        let bytes = coffre_tests::seed::bytes(number, len);
        fs::write(cli.path("part"), &bytes).unwrap();
        let number_text = number.to_string();
        let part = cli.json(&object(
            "upload-part",
            &["--part-number", &number_text, "--upload-id", upload, "--body", "part"],
        ));
        parts.push(serde_json::json!({"PartNumber": number, "ETag": part["ETag"]}));
        whole.extend(bytes);
    }
    let listed = cli.json(&object("list-parts", &["--upload-id", upload]));
    assert_eq!(listed["Parts"].as_array().map(Vec::len), Some(3), "{listed}");
    let uploads = cli.json(&["s3api", "list-multipart-uploads", "--bucket", "b-api"]);
    assert_eq!(uploads["Uploads"][0]["UploadId"], upload);
    let completion = serde_json::json!({ "Parts": parts }).to_string();
    let done = cli.json(&object(
        "complete-multipart-upload",
        &["--upload-id", upload, "--multipart-upload", &completion],
    ));
    assert!(done["ETag"].as_str().unwrap().ends_with("-3\""), "{done}");
    cli.run(&object("get-object", &["out"]));
    assert_eq!(fs::read(cli.path("out")).unwrap(), whole);
    let second = cli.json(&object("create-multipart-upload", &[]));
    cli.run(&object("abort-multipart-upload", &["--upload-id", second["UploadId"].as_str().unwrap()]));
    let uploads = cli.run(&["s3api", "list-multipart-uploads", "--bucket", "b-api"]);
    assert!(!uploads.contains("UploadId"), "{uploads}");
}
