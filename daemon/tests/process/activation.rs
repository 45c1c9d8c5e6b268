//! Socket activation: the supervisor holds the ports (`systemd/coffre.socket`).

use std::process::Command;

use crate::process::{Daemon, coffre, stderr};

/// Binds two ports, hands them over as descriptors 3 and 4, and becomes the daemon: what systemd does.
const HAND_OVER: &str = "
import os, socket, sys
s3, rest = socket.socket(), socket.socket()
for s, host in ((s3, sys.argv[1]), (rest, '127.0.0.1')):
    s.bind((host, 0)); s.listen()
a, b = os.dup(s3.fileno()), os.dup(rest.fileno())
high = [os.dup2(a, 50), os.dup2(b, 51)]
os.dup2(50, 3); os.dup2(51, 4)
os.environ['LISTEN_PID'], os.environ['LISTEN_FDS'] = str(os.getpid()), '2'
os.execv(sys.argv[2], sys.argv[2:])
";

fn handed_over(host: &str, data: &std::path::Path) -> Command {
    let binary = coffre();
    let mut command = Command::new("python3");
    command.args(["-c", HAND_OVER, host]).arg(binary.get_program());
    // A port that must not be used shows that the sockets are.
    command.args(["serve", "--s3-listen", "127.0.0.1:1", "--rest-listen", "127.0.0.1:2", "--data"]).arg(data);
    command
}

#[test]
fn sockets_handed_over_are_the_doors() {
    let folder = tempfile::tempdir().unwrap();
    let daemon = Daemon::spawn(folder.path(), handed_over("127.0.0.1", &folder.path().join("data")));
    assert_eq!(daemon.rest("GET", "/readyz", "").status, 200);
    let s3 = std::net::TcpStream::connect(daemon.address("s3")).unwrap();
    let answer = crate::process::ask(s3, "GET", "/", "");
    assert!(answer.header("x-amz-request-id").is_some(), "{}", answer.body);
    assert!(!daemon.address("s3").ends_with(":1"));
    daemon.stop();
}

#[test]
fn a_socket_beyond_loopback_wants_a_public_url_too() {
    let folder = tempfile::tempdir().unwrap();
    let refused = handed_over("0.0.0.0", &folder.path().join("data")).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("socket activation: s3.listen: 0.0.0.0:"), "{}", stderr(&refused));
    assert!(stderr(&refused).contains("set [s3] public_url"), "{}", stderr(&refused));
}
