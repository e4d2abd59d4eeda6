//! The listening sockets, bound once and kept for the life of the supervisor, and the folder for hand-over sockets.

use crate::server::listening::bind;
use pingora_core::server::Fds;
use socket2::Socket;
use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;

/// The sockets by the name their children use for them; none, once nothing is to be accepted any more.
#[derive(Default)]
pub struct Sockets {
    sockets: Vec<(String, Socket)>,
}

impl Sockets {
    /// Binds every address.
    ///
    /// # Errors
    /// The address that cannot be had, and why.
    pub fn open(addresses: &[SocketAddr], reuse_port: bool) -> Result<Self, (SocketAddr, io::Error)> {
        let open = |address: &SocketAddr| {
            let socket = bind(*address, reuse_port).map_err(|cause| (*address, cause))?;
            Ok((address.to_string(), socket))
        };
        Ok(Sockets { sockets: addresses.iter().map(open).collect::<Result<_, _>>()? })
    }

    /// The descriptors as Pingora hands them over. They stay ours.
    pub fn descriptors(&self) -> Fds {
        let mut descriptors = Fds::new();
        for (name, socket) in &self.sockets {
            descriptors.add(name.clone(), socket.as_raw_fd());
        }
        descriptors
    }
}

/// A folder of our own for one hand-over, gone when dropped.
pub struct Folder(PathBuf);

impl Folder {
    /// Makes it in the first of these places in which a socket can be made too. It must be new: one that was there before may
    /// belong to somebody who would like to have our sockets.
    ///
    /// # Errors
    /// A sentence with what is wrong with each place.
    pub fn make(places: &[PathBuf]) -> Result<Self, String> {
        let mut faults = Vec::new();
        for place in places {
            let name = format!("nanogate-{}-{:08x}", std::process::id(), fastrand::u32(..));
            match Folder::new(place.join(name)) {
                Ok(folder) => return Ok(folder),
                Err(cause) => faults.push(format!("{}: {cause}", place.display())),
            }
        }
        let faults = faults.join("; ");
        Err(format!("no folder for the hand-over socket can be made ({faults}); set TMPDIR to one that can be written"))
    }

    /// Pingora panics in the child when the socket cannot be bound (the last inode went to the folder, or the path is too long for
    /// a socket), so one is bound here first.
    fn new(path: PathBuf) -> io::Result<Self> {
        std::fs::DirBuilder::new().mode(0o700).create(&path)?;
        let folder = Folder(path);
        UnixListener::bind(folder.socket())?;
        std::fs::remove_file(folder.socket())?;
        Ok(folder)
    }

    /// Where the one socket in it goes.
    pub fn socket(&self) -> PathBuf {
        self.0.join("upgrade.sock")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(cause) = std::fs::remove_dir_all(&self.0) {
            log::debug!("{} is left: {cause}", self.0.display());
        }
    }
}
