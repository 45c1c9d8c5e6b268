//! `coffre mount`, `coffre umount`, and `mount.coffre`, as which `mount -t coffre` and fstab call this program.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::{Context, text};
use crate::control::Command;
use crate::error::{Error, Result};
use crate::mounts::Wanted;

#[derive(Debug, clap::Args)]
pub(super) struct MountArgs {
    /// Where: an empty directory
    dir: PathBuf,
    /// Which bucket [default: the setting mount.bucket, else the filing bucket]
    #[arg(long, value_name = "BUCKET", conflicts_with = "all_buckets")]
    bucket: Option<String>,
    /// All buckets, as directories
    #[arg(long)]
    all_buckets: bool,
    /// Only keys below this
    #[arg(long, value_name = "PATH")]
    prefix: Option<String>,
    /// In whose name [default: the setting mount.user, else the first ADMIN]
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Nothing can be changed
    #[arg(long)]
    read_only: bool,
    /// Other users of this machine may use it
    #[arg(long)]
    allow_other: bool,
    /// Owner of what came by other doors
    #[arg(long, value_name = "N")]
    uid: Option<u32>,
    /// Its group
    #[arg(long, value_name = "N")]
    gid: Option<u32>,
    /// What its mode lacks, octal
    #[arg(long, value_name = "MASK")]
    umask: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct UmountArgs {
    /// Where it is
    dir: PathBuf,
}

pub(super) fn mount(context: &Context, args: MountArgs) -> Result<ExitCode> {
    let given = |flag: bool| flag.then_some(true);
    let wanted = Wanted {
        path: absolute(&args.dir)?,
        bucket: args.bucket,
        all_buckets: given(args.all_buckets),
        prefix: args.prefix,
        user: args.user,
        read_only: given(args.read_only),
        allow_other: given(args.allow_other),
        uid: args.uid,
        gid: args.gid,
        umask: args.umask,
    };
    let mounted = context.ask(&Command::Mount(wanted))?;
    context.output.result(&mounted, |mounted| format!("mounted on {}", text(mounted, "path")));
    Ok(ExitCode::SUCCESS)
}

pub(super) fn umount(context: &Context, args: &UmountArgs) -> Result<ExitCode> {
    let path = absolute(&args.dir)?;
    let unmounted = context.ask(&Command::Umount { path })?;
    context.output.result(&unmounted, |unmounted| format!("unmounted {}", text(unmounted, "path")));
    Ok(ExitCode::SUCCESS)
}

/// The daemon has a directory of its own: paths go to it whole. One that cannot be entered (what a killed daemon left) is
/// taken as it is written.
fn absolute(path: &Path) -> Result<PathBuf> {
    match path.canonicalize() {
        Ok(path) => Ok(path),
        Err(_) => std::path::absolute(path).map_err(Error::io("reading the path")),
    }
}

/// What `mount.coffre SOURCE DIR [-sfnv] [-o OPTIONS]` asks for: the data directory, and what to mount where.
#[derive(Debug, PartialEq, Eq)]
struct Asked {
    data: PathBuf,
    wanted: Wanted,
    /// `-f`: only pretend.
    is_fake: bool,
}

/// Runs as `mount.coffre`: exit codes as mount(8) has them, 1 for wrong usage, 32 for a failed mount.
pub(super) fn run_as_helper(arguments: &[String]) -> ExitCode {
    let asked = match parse(arguments) {
        Ok(asked) => asked,
        Err(reason) => {
            super::output::Output::new(false).error(&reason);
            return ExitCode::from(1);
        }
    };
    if asked.is_fake {
        return ExitCode::SUCCESS;
    }
    let context = Context { data: asked.data, output: super::output::Output::new(false) };
    let wanted = match absolute(&asked.wanted.path) {
        Ok(path) => Wanted { path, ..asked.wanted },
        Err(_) => asked.wanted,
    };
    match context.ask(&Command::Mount(wanted)) {
        Ok(_) => ExitCode::SUCCESS,
        Err(e) => {
            context.output.error(&e.chain());
            ExitCode::from(32)
        }
    }
}

fn parse(arguments: &[String]) -> std::result::Result<Asked, String> {
    let mut places = Vec::new();
    let mut wanted = Wanted::default();
    let (mut is_fake, mut rest) = (false, arguments.iter());
    while let Some(argument) = rest.next() {
        match argument.as_str() {
            "-o" => {
                let options = rest.next().ok_or("-o needs options")?;
                for option in options.split(',').filter(|option| !option.is_empty()) {
                    apply(option, &mut wanted)?;
                }
            }
            "-t" | "-N" => {
                rest.next();
            }
            flags if flags.starts_with('-') => is_fake |= flags.contains('f'),
            place => places.push(place.to_owned()),
        }
    }
    let [source, dir] = <[String; 2]>::try_from(places)
        .map_err(|_| "usage: mount.coffre DATA[#BUCKET[/PREFIX]] DIR [-o OPTIONS]".to_owned())?;
    let (data, inside) = source.split_once('#').unwrap_or((&source, ""));
    let (bucket, prefix) = inside.split_once('/').unwrap_or((inside, ""));
    if !bucket.is_empty() {
        wanted.bucket = Some(bucket.to_owned());
    }
    if !prefix.is_empty() {
        wanted.prefix = Some(prefix.to_owned());
    }
    wanted.path = dir.into();
    Ok(Asked { data: data.into(), wanted, is_fake })
}

/// One option of fstab. Those that are for mount(8) and systemd are passed over; an unknown one is a mistake.
fn apply(option: &str, wanted: &mut Wanted) -> std::result::Result<(), String> {
    let (name, value) = option.split_once('=').unwrap_or((option, ""));
    let number = || value.parse().map_err(|_| format!("{name} has to be a number"));
    match name {
        "ro" => wanted.read_only = Some(true),
        "rw" => wanted.read_only = Some(false),
        "allow_other" => wanted.allow_other = Some(true),
        "all_buckets" => wanted.all_buckets = Some(true),
        "bucket" => wanted.bucket = Some(value.to_owned()),
        "prefix" => wanted.prefix = Some(value.to_owned()),
        "principal" => wanted.user = Some(value.to_owned()),
        "uid" => wanted.uid = Some(number()?),
        "gid" => wanted.gid = Some(number()?),
        "umask" => wanted.umask = Some(value.to_owned()),
        "defaults" | "auto" | "noauto" | "nofail" | "fail" | "_netdev" | "user" | "nouser" | "users"
        | "owner" | "group" | "dev" | "nodev" | "suid" | "nosuid" | "exec" | "async" | "atime"
        | "noatime" | "relatime" | "comment" => {}
        name if name.starts_with("x-") || name.starts_with("X-") => {}
        _ => return Err(format!("unknown option {name}")),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn what_fstab_says_is_understood() {
        let asked = parse(&words(
            "/var/lib/coffre#media/a/b /mnt -sn -o rw,_netdev,nofail,x-systemd.requires=coffre.service,uid=5,umask=027",
        ));
        let wanted = Wanted {
            path: "/mnt".into(),
            bucket: Some("media".into()),
            prefix: Some("a/b".into()),
            read_only: Some(false),
            uid: Some(5),
            umask: Some("027".into()),
            ..Wanted::default()
        };
        assert_eq!(asked, Ok(Asked { data: "/var/lib/coffre".into(), wanted, is_fake: false }));
        assert!(parse(&words("/d /mnt -f")).is_ok_and(|asked| asked.is_fake));
        assert!(parse(&words("/d /mnt -o ro")).is_ok_and(|asked| asked.wanted.read_only == Some(true)));
    }

    #[test]
    fn mistakes_are_told() {
        for (text, reason) in [
            ("/d", "usage"),
            ("/d /mnt /other", "usage"),
            ("/d /mnt -o", "-o needs"),
            ("/d /mnt -o colour=red", "unknown option colour"),
            ("/d /mnt -o uid=me", "uid has to be a number"),
        ] {
            let refused = parse(&words(text)).expect_err("refused");
            assert!(refused.contains(reason), "{refused}");
        }
    }
}
