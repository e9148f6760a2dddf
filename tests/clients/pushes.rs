//! Tools that sign, aimed at the mirror of an upstream that nobody writes to: what they push is kept, lets the image
//! through, and is read back by the tools that verify. Nothing of it reaches the upstream.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf, process::Command};

use base64::{Engine, prelude::BASE64_STANDARD};

use crate::{
    clients::Origin,
    hub::{ACCOUNT, listed},
    images::Image,
    mirror::{ADMIN, Mirror, WITH_ADMIN},
    process::run,
    world::{World, free_address, inside},
};

/// A mirror that enforces, its own name, and a directory for a tool that is signed in there.
struct Desk<'a> {
    world: &'a World,
    mirror: Mirror<'a>,
    name: String,
    directory: PathBuf,
}

impl<'a> Desk<'a> {
    fn new(world: &'a World, tool: &str) -> Self {
        let address = free_address();
        let name = format!("localhost:{}", address.port());
        let own = [("REGISTRY_HOSTS", &*name), ("POLICY_DEFAULT", "enforce")];
        let mirror = Mirror::start_at(world, address, &[&WITH_ADMIN[..], &own].concat());
        let directory = world.scratch.join("desks").join(tool);
        fs::create_dir_all(&directory).unwrap();
        let auth = BASE64_STANDARD.encode(format!("{}:{}", ADMIN.0, ADMIN.1));
        let login = serde_json::json!({"auths": {&name: {"auth": auth}}});
        fs::write(directory.join("config.json"), login.to_string()).unwrap();
        Self { world, mirror, name, directory }
    }

    fn command(&self, origin: Origin, program: &str) -> Command {
        let mut command = origin.command(program, self.world);
        let home = &self.directory;
        command.env("DOCKER_CONFIG", home).env("HOME", home).env("XDG_CONFIG_HOME", home.join("config"));
        command.env("GNUPGHOME", home).env("COSIGN_PASSWORD", "").current_dir(home);
        command
    }

    fn reference(&self, image: &Image) -> String {
        format!("{}/docker.io/{}@{}", self.name, image.repository, image.single)
    }

    fn trust(&self, public_key: &str) {
        fs::copy(self.directory.join(public_key), self.mirror.directory().join("trust").join(public_key)).unwrap();
    }

    /// Runs `sign`, which nothing may come of but that the image is let through.
    fn lets_through(&self, image: &Image, sign: impl FnOnce()) {
        let other = self.world.registry.publish("preview-1");
        assert!(!self.mirror.gives(image, &image.tag), "it is not signed yet");
        let watch = self.world.hub.watch();
        sign();
        self.mirror.wait_until(|| self.mirror.gives(image, &image.tag) && self.mirror.gives(image, &image.single));
        assert!(!self.mirror.gives(&other, &other.tag), "nobody signed the other one");
        let writes: Vec<_> = watch.entries().into_iter().filter(|entry| !entry.reads()).collect();
        assert!(writes.is_empty(), "{}", listed(&writes));
    }
}

#[test]
#[ignore = "needs root and real clients: tests/run"]
fn cosign_signs_through_the_mirror_and_verifies_through_it() {
    inside(|world| {
        for (origin, forms) in [
            (Origin::Trixie, &[&["--allow-insecure-registry"][..]][..]),
            (
                Origin::Sid,
                &[&["--use-signing-config=false"], &["--use-signing-config=false", "--new-bundle-format=false"]],
            ),
        ] {
            let desk = Desk::new(world, &format!("cosign-{origin:?}"));
            run(desk.command(origin, "cosign").arg("generate-key-pair")).expect("cosign generate-key-pair");
            desk.trust("cosign.pub");
            for form in forms {
                let image = world.registry.publish("preview-1");
                let reference = desk.reference(&image);
                desk.lets_through(&image, || {
                    let mut sign = desk.command(origin, "cosign");
                    sign.args(["sign", "--yes", "--key", "cosign.key", "--tlog-upload=false", "--allow-http-registry"]);
                    run(sign.args(*form).arg(&reference)).expect("cosign sign");
                });
                let mut verify = desk.command(origin, "cosign");
                verify.args(["verify", "--key", "cosign.pub", "--insecure-ignore-tlog", "--allow-http-registry"]);
                let verified = run(verify.arg(&reference)).expect("cosign verify");
                assert!(verified.contains(&image.single), "{verified}");
            }
        }
    });
}

#[test]
#[ignore = "needs root and real clients: tests/run"]
fn attestations_and_lists_of_parts_are_kept_and_let_nothing_through() {
    inside(|world| {
        let desk = Desk::new(world, "attest");
        let image = world.registry.publish("preview-1");
        let reference = desk.reference(&image);
        fs::write(desk.directory.join("sbom.json"), r#"{"spdxVersion":"SPDX-2.3"}"#).unwrap();
        run(desk.command(Origin::Trixie, "cosign").arg("generate-key-pair")).expect("cosign generate-key-pair");
        desk.trust("cosign.pub");
        let watch = world.hub.watch();
        for (origin, form) in
            [(Origin::Trixie, "--allow-insecure-registry"), (Origin::Sid, "--use-signing-config=false")]
        {
            let mut attest = desk.command(origin, "cosign");
            attest.args(["attest", "--yes", "--key", "cosign.key", "--tlog-upload=false", "--type", "spdxjson"]);
            attest.args(["--predicate", "sbom.json", "--allow-http-registry", form]);
            run(attest.arg(&reference)).expect("cosign attest");
            let mut verify = desk.command(origin, "cosign");
            verify.args(["verify-attestation", "--type", "spdxjson", "--key", "cosign.pub", "--insecure-ignore-tlog"]);
            run(verify.args(["--allow-http-registry", &reference])).expect("cosign verify-attestation");
        }
        let mut attach = desk.command(Origin::Sid, "oras");
        attach.args(["attach", "--plain-http", "--artifact-type", "application/spdx+json", &reference]);
        run(attach.arg("sbom.json:application/spdx+json")).expect("oras attach");
        let mut discover = desk.command(Origin::Sid, "oras");
        let found = run(discover.args(["discover", "--plain-http", &reference])).expect("oras discover");
        assert!(found.contains("application/spdx+json") && found.contains("sigstore.bundle"), "{found}");
        // An image is another matter.
        let mut push = desk.command(Origin::Sid, "oras");
        push.args(["push", "--plain-http", &format!("{}/docker.io/{}:evil", desk.name, image.repository), "sbom.json"]);
        let pushed = run(&mut push);
        assert!(!pushed.ok && pushed.output.contains("only signatures, attestations and SBOMs"), "{}", pushed.output);
        assert!(!desk.mirror.gives(&image, &image.tag) && !desk.mirror.holds_valid(&image.single));
        let writes: Vec<_> = watch.entries().into_iter().filter(|entry| !entry.reads()).collect();
        assert!(writes.is_empty(), "{}", listed(&writes));
    });
}

#[test]
#[ignore = "needs root and real clients: tests/run"]
fn notation_signs_through_the_mirror_and_verifies_through_it() {
    inside(|world| {
        let desk = Desk::new(world, "notation");
        let image = world.registry.publish("preview-1");
        let notation = |arguments: &[&str]| {
            let mut command = desk.command(Origin::Sid, "notation");
            run(command.args(arguments)).expect(arguments[0])
        };
        notation(&["cert", "generate-test", "--default", "push.example"]);
        let policy = serde_json::json!({"version": "1.0", "trustPolicies": [{
            "name": "push", "registryScopes": ["*"], "signatureVerification": {"level": "strict"},
            "trustStores": ["ca:push.example"], "trustedIdentities": ["*"],
        }]});
        fs::write(desk.directory.join("policy.json"), policy.to_string()).unwrap();
        notation(&["policy", "import", "--force", "policy.json"]);
        let watch = world.hub.watch();
        for format in ["jws", "cose"] {
            let reference = desk.reference(&image);
            let account = ["--insecure-registry", "-u", ADMIN.0, "-p", ADMIN.1, &*reference];
            notation(&[&["sign", "--signature-format", format][..], &account].concat());
            let verified = notation(&[&["verify"][..], &account].concat());
            assert!(verified.contains("Successfully verified"), "{verified}");
        }
        let writes: Vec<_> = watch.entries().into_iter().filter(|entry| !entry.reads()).collect();
        assert!(writes.is_empty(), "{}", listed(&writes));
    });
}

/// They put the image back before they sign it; the signature then goes where the mirror says that it takes them.
#[test]
#[ignore = "needs root and real clients: tests/run"]
fn skopeo_and_podman_sign_an_image_that_they_put_back_where_it_is() {
    inside(|world| {
        let desk = Desk::new(world, "skopeo");
        let image = world.registry.publish("preview-1");
        fs::set_permissions(&desk.directory, fs::Permissions::from_mode(0o700)).unwrap();
        let mut key = desk.command(Origin::Installed, "gpg");
        key.args(["--batch", "--passphrase", "", "--quick-gen-key", SIGNER, "ed25519", "sign", "never"]);
        run(&mut key).expect("gpg");
        let mut export = desk.command(Origin::Installed, "gpg");
        run(export.args(["--armor", "--output", "signer.asc", "--export", SIGNER])).expect("gpg --export");
        desk.trust("signer.asc");

        // podman packs a layer anew each time, so the image is the same only where podman made it.
        let podman = |arguments: &[&str]| {
            let mut command = desk.command(Origin::Installed, "podman");
            let place = desk.directory.join("podman");
            command.arg("--root").arg(place.join("root")).arg("--runroot").arg(place.join("run"));
            command.env_remove("XDG_CONFIG_HOME").args(["--storage-driver", "vfs"]);
            run(command.args(arguments)).expect(arguments[0])
        };
        // Larger than any blob of a signature may be.
        let script = "head -c 5000000 /dev/urandom > layer && tar -cf layer.tar layer";
        run(desk.command(Origin::Installed, "sh").args(["-c", script])).expect("tar");
        podman(&["import", "layer.tar", "localhost/made:1"]);
        let hub = format!("{}:{}", ACCOUNT.0, ACCOUNT.1);
        podman(&[
            "push",
            "--creds",
            &hub,
            "--digestfile",
            "digest",
            "localhost/made:1",
            "docker://docker.io/library/made:v1",
        ]);
        let made = fs::read_to_string(desk.directory.join("digest")).unwrap();

        let admin = format!("{}:{}", ADMIN.0, ADMIN.1);
        let watch = world.hub.watch();
        let target = format!("docker://{}/docker.io/library/made:v1", desk.name);
        let signed = ["--sign-by", SIGNER, "--creds", &admin, "--tls-verify=false", "localhost/made:1", &target];
        podman(&[&["push"][..], &signed].concat());
        desk.mirror.wait_until(|| desk.mirror.holds_valid(made.trim()));
        let copy = |tag: &str| {
            let mut copy = desk.command(Origin::Installed, "skopeo");
            copy.args(["--insecure-policy", "copy", "--dest-tls-verify=false"]);
            copy.args(["--sign-by", SIGNER, "--dest-creds", &admin]);
            copy.arg(format!("docker://docker.io/{}:{}", image.repository, image.tag));
            run(copy.arg(format!("docker://{}/docker.io/{}:{tag}", desk.name, image.repository)))
        };
        assert!(!desk.mirror.gives(&image, &image.tag), "it is not signed yet");
        copy(&image.tag).expect("skopeo copy --sign-by");
        desk.mirror.wait_until(|| desk.mirror.gives(&image, &image.tag));
        let elsewhere = copy("another");
        assert!(!elsewhere.ok && elsewhere.output.contains("denied: only signatures"), "{}", elsewhere.output);
        let writes: Vec<_> = watch.entries().into_iter().filter(|entry| !entry.reads()).collect();
        assert!(writes.is_empty(), "{}", listed(&writes));
    });
}

const SIGNER: &str = "push@example.com";
