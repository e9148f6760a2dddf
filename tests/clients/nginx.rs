//! nginx in front of the mirror, with the file of `deploy` as an operator installs it.

use std::{fs, net::TcpStream, path::Path};

use crate::{
    doors::Door,
    process::{self, Daemon},
    world::World,
};

/// Listens at [`Door::Tls`], and expects the mirror at port 8080 of loopback.
pub(crate) struct Nginx {
    _daemon: Daemon,
}

impl Nginx {
    pub(crate) fn start(world: &World) -> Self {
        let place = world.scratch.join("nginx");
        let tls = Path::new("/etc/nginx/tls");
        for directory in [&place, tls] {
            fs::create_dir_all(directory).unwrap();
        }
        for file in ["crt", "key"] {
            fs::copy(world.scratch.join("mirror").with_extension(file), tls.join("sig-repo").with_extension(file))
                .unwrap();
        }
        let text = include_str!("../../deploy/nginx/sig-repo.conf");
        // The stand-in has the same port at other addresses.
        let listens = "listen 443 ssl;";
        assert!(text.contains(listens), "{text}");
        let address = world.doors.address(Door::Tls);
        fs::write(place.join("site.conf"), text.replace(listens, &format!("listen {address} ssl;"))).unwrap();
        let main = place.join("nginx.conf");
        let text = format!(
            "daemon off; user root; pid {0}/pid; error_log stderr; events {{}} \
             http {{ access_log off; include {0}/site.conf; }}",
            place.display()
        );
        fs::write(&main, text).unwrap();
        let mut command = process::daemon("nginx", &world.scratch);
        command.args(["-e", "stderr", "-c"]).arg(main);
        let mut daemon = Daemon::start("nginx", command);
        daemon.wait_until(|| TcpStream::connect(address).is_ok());
        Self { _daemon: daemon }
    }
}
