//! The sockets: given by the supervisor (socket activation) or bound here; `DIR/listen.json` tells where they are.

use std::io;
use std::net::SocketAddr;
use std::path::Path;

use coffre_disk::{DiskExt as _, RealDisk};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;

use crate::config::{Config, needs_public_url, public_url_reason};
use crate::error::{Error, Result};

/// File name of [`Addresses`] in the data directory.
const FILE: &str = "listen.json";

/// Both listeners.
#[derive(Debug)]
pub(crate) struct Listeners {
    pub(crate) s3: TcpListener,
    pub(crate) rest: TcpListener,
}

/// Where the doors are: the addresses really bound, with the ports the kernel chose for `:0`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Addresses {
    pub(crate) s3: SocketAddr,
    pub(crate) rest: SocketAddr,
    /// What clients reach them by: the public URL when one is configured.
    pub(crate) s3_url: String,
    pub(crate) rest_url: String,
    /// What clients sign for.
    pub(crate) region: String,
    /// The daemon that wrote this.
    pub(crate) pid: u32,
}

impl Listeners {
    /// Takes the sockets handed over (first S3, second REST: the order in `coffre.socket`), binds what was not.
    pub(crate) async fn open(config: &Config) -> Result<Self> {
        let mut handed = listenfd::ListenFd::from_env();
        let s3 = match handed.take_tcp_listener(0).map_err(Error::io("taking the S3 socket handed over"))? {
            Some(socket) => adopt("s3", socket, config.s3.public_url.as_deref())?,
            None => bind("S3", "s3", config.s3.listen).await?,
        };
        let rest =
            match handed.take_tcp_listener(1).map_err(Error::io("taking the REST socket handed over"))? {
                Some(socket) => adopt("rest", socket, config.rest.public_url.as_deref())?,
                None => bind("REST", "rest", config.rest.listen).await?,
            };
        Ok(Self { s3, rest })
    }

    pub(crate) fn addresses(&self, config: &Config) -> Result<Addresses> {
        let of =
            |listener: &TcpListener| listener.local_addr().map_err(Error::io("asking a listener's address"));
        let (s3, rest) = (of(&self.s3)?, of(&self.rest)?);
        let scheme = if config.tls.cert.is_some() { "https" } else { "http" };
        let url = |public: &Option<String>, address: SocketAddr| {
            let public = public.as_deref().map(|url| url.trim_end_matches('/').to_owned());
            public.unwrap_or_else(|| format!("{scheme}://{address}"))
        };
        Ok(Addresses {
            s3,
            rest,
            s3_url: url(&config.s3.public_url, s3),
            rest_url: url(&config.rest.public_url, rest),
            region: config.s3.region.clone(),
            pid: std::process::id(),
        })
    }
}

fn adopt(
    section: &'static str,
    socket: std::net::TcpListener,
    public_url: Option<&str>,
) -> Result<TcpListener> {
    let taken = socket
        .set_nonblocking(true)
        .and_then(|()| socket.local_addr())
        .and_then(|address| Ok((address, TcpListener::from_std(socket)?)));
    let (address, listener) = taken.map_err(Error::io("taking a socket handed over"))?;
    // The rule of contract D34 for who binds in our place.
    if needs_public_url(address, public_url) {
        return Err(Error::Setting {
            place: "socket activation".into(),
            key: format!("{section}.listen"),
            reason: format!("{address} {}", public_url_reason(section)),
        });
    }
    Ok(listener)
}

async fn bind(door: &'static str, flag: &'static str, address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => Error::PortInUse { door, flag, address },
        _ => Error::Bind { door, address, source },
    })
}

impl Addresses {
    /// Writes the file whole.
    pub(crate) fn write(&self, data: &Path) -> Result<()> {
        let text = serde_json::to_vec(self).expect("addresses and a number are JSON");
        RealDisk.replace_whole(data, FILE, &text).map_err(Error::io("writing listen.json"))
    }

    /// Of the daemon that runs or ran last; `None` when there is no such file.
    pub(crate) fn read(data: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(data.join(FILE)).ok()?).ok()
    }

    /// Removes the file; fine when there is none.
    pub(crate) fn remove(data: &Path) -> Result<()> {
        match std::fs::remove_file(data.join(FILE)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                Err(Error::Io { doing: "removing an old listen.json", source: e })
            }
            _ => Ok(()),
        }
    }
}
