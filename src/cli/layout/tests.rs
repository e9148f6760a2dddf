use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::oci::MediaType;

/// A layout that is written file by file.
struct Draft {
    dir: TempDir,
    listed: Vec<Value>,
}

impl Draft {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("blobs/sha256")).unwrap();
        fs::write(dir.path().join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self { dir, listed: Vec::new() }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.path().join("blobs/sha256").join(digest.encoded())
    }

    fn blob(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::sha256(bytes);
        fs::write(self.blob_path(&digest), bytes).unwrap();
        digest
    }

    fn image(&self, content: &str) -> Digest {
        let config = json!({"mediaType": MediaType::OCI_CONFIG, "digest": self.blob(b"{}"), "size": 2});
        let layer = self.blob(content.as_bytes());
        let layer =
            json!({"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": layer, "size": content.len()});
        self.blob(json!({"schemaVersion": 2, "config": config, "layers": [layer]}).to_string().as_bytes())
    }

    fn index(&self, of: &Digest) -> Digest {
        let child = descriptor(&MediaType::OCI_MANIFEST, self, of);
        self.blob(json!({"schemaVersion": 2, "manifests": [child]}).to_string().as_bytes())
    }

    fn signature(&self, subject: Option<&Digest>) -> Digest {
        let config = json!({"mediaType": MediaType::OCI_CONFIG, "digest": self.blob(b"{}"), "size": 2});
        let layer = json!({"mediaType": MediaType::SIMPLE_SIGNING, "digest": self.blob(b"payload"), "size": 7});
        let mut manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]});
        if let Some(subject) = subject {
            manifest["subject"] = descriptor(&MediaType::OCI_MANIFEST, self, subject);
        }
        self.blob(manifest.to_string().as_bytes())
    }

    fn list(&mut self, media_type: &MediaType, digest: &Digest, annotations: Value) {
        let mut listed = descriptor(media_type, self, digest);
        listed["annotations"] = annotations;
        self.listed.push(listed);
    }

    fn open(&self) -> anyhow::Result<Layout> {
        let index = json!({"schemaVersion": 2, "manifests": self.listed});
        fs::write(self.path().join("index.json"), index.to_string()).unwrap();
        Layout::open(self.path())
    }

    fn error(&self) -> String {
        format!("{:#}", self.open().err().expect("it is refused"))
    }
}

fn descriptor(media_type: &MediaType, draft: &Draft, digest: &Digest) -> Value {
    let size = fs::metadata(draft.blob_path(digest)).unwrap().len();
    json!({"mediaType": media_type, "digest": digest, "size": size})
}

fn signature_tag(image: &Digest) -> Tag {
    format!("sha256-{}.sig", image.encoded()).parse().unwrap()
}

const IMAGE: MediaType = MediaType::OCI_MANIFEST;

#[test]
fn signatures_are_found_wherever_tools_put_them() {
    let mut draft = Draft::new();
    let image = draft.image("one");
    draft.list(&IMAGE, &image, json!({"kind": "dev.cosignproject.cosign/image"}));
    let marked = draft.signature(None);
    draft.list(&IMAGE, &marked, json!({"kind": "dev.cosignproject.cosign/sigs"}));
    // As cosign 3 leaves it: among the blobs, and in no list.
    let unlisted = draft.signature(Some(&image));
    let layout = draft.open().unwrap();
    assert_eq!(layout.images, [Entry { digest: image, name: None }]);
    assert_eq!(layout.tagged(&signature_tag(&image)), Some(marked));
    assert_eq!(layout.referrers(&image).iter().map(|listed| listed.digest).collect::<Vec<_>>(), [unlisted]);
    layout.check(&image).unwrap();

    let mut draft = Draft::new();
    let (image, other) = (draft.image("one"), draft.image("two"));
    draft.list(&IMAGE, &image, json!({REF_NAME: "v1"}));
    draft.list(&IMAGE, &other, json!({REF_NAME: "registry.example/team/app:v2"}));
    let tagged = draft.signature(None);
    draft.list(&IMAGE, &tagged, json!({REF_NAME: signature_tag(&image)}));
    let whose = draft.signature(Some(&other));
    draft.list(&IMAGE, &whose, json!({}));
    draft.list(&IMAGE, &draft.signature(None), json!({"kind": "dev.cosignproject.cosign/sigs"}));
    let layout = draft.open().unwrap();
    assert_eq!(layout.tagged(&signature_tag(&image)), Some(tagged));
    assert_eq!((layout.referrers(&other).len(), layout.unattributed().len()), (1, 1));
    for (wanted, expected) in [("v1", image), ("v2", other), ("registry.example/team/app:v2", other)] {
        assert_eq!(layout.choose(&Wanted::Name(wanted.to_owned())).unwrap().digest, expected, "{wanted}");
    }
    let named = layout.choose(&Wanted::Name("v2".to_owned())).unwrap().named().unwrap().unwrap();
    assert_eq!(named.tag.unwrap().as_str(), "v2");
    let error = layout.choose(&Wanted::TheOne).unwrap_err().to_string();
    assert_eq!(
        error,
        format!(
            "which image is meant? Name one by :REF or @DIGEST; there are \"v1\" ({image}), \
             \"registry.example/team/app:v2\" ({other})"
        )
    );
}

#[test]
fn an_image_within_an_index_is_chosen_by_its_digest() {
    let mut draft = Draft::new();
    let image = draft.image("one");
    let index = draft.index(&image);
    draft.list(&MediaType::OCI_INDEX, &index, json!({REF_NAME: "v1"}));
    let layout = draft.open().unwrap();
    assert_eq!(layout.choose(&Wanted::TheOne).unwrap().digest, index);
    assert_eq!(layout.choose(&Wanted::Digest(image)).unwrap().digest, image);
    layout.check(&index).unwrap();
    let absent = Digest::sha256(b"absent");
    assert!(layout.choose(&Wanted::Digest(absent)).unwrap_err().to_string().starts_with("there is no sha256:"));
    // What is for another platform may be left out, what is there must be whole.
    fs::remove_file(draft.blob_path(&image)).unwrap();
    draft.open().unwrap().check(&index).unwrap();
    fs::write(draft.blob_path(&image), "{}").unwrap();
    assert!(draft.error().contains("has 2 bytes, not"));
}

#[test]
fn what_is_not_as_it_says_is_refused() {
    let listed = |digest: &dyn Fn(&Draft) -> Digest| {
        let mut draft = Draft::new();
        let digest = digest(&draft);
        draft.list(&IMAGE, &digest, json!({}));
        (draft, digest)
    };
    let image = |draft: &Draft| draft.image("one");

    let (draft, digest) = listed(&image);
    let mut bytes = fs::read(draft.blob_path(&digest)).unwrap();
    *bytes.last_mut().unwrap() = b' ';
    fs::write(draft.blob_path(&digest), bytes).unwrap();
    assert!(draft.error().contains("the bytes have the digest"));

    let (draft, digest) = listed(&image);
    fs::remove_file(draft.blob_path(&digest)).unwrap();
    assert!(draft.error().contains("is in index.json, and not in blobs"));

    let (draft, digest) = listed(&image);
    let layer = draft.blob_path(&Digest::sha256(b"one"));
    fs::write(&layer, "oen").unwrap();
    let layout = draft.open().unwrap();
    assert!(layout.check(&digest).unwrap_err().to_string().contains("other bytes than its digest says"));
    fs::remove_file(&layer).unwrap();
    assert!(layout.check(&digest).unwrap_err().to_string().contains("is missing"));

    // A link to the very bytes is one all the same, and so is one in the way to them.
    let (draft, digest) = listed(&image);
    let (blob, elsewhere) = (draft.blob_path(&digest), tempfile::tempdir().unwrap());
    fs::rename(&blob, elsewhere.path().join("blob")).unwrap();
    symlink(elsewhere.path().join("blob"), &blob).unwrap();
    assert!(draft.error().contains("is a symbolic link, which is not followed"));
    let (draft, _) = listed(&image);
    fs::rename(draft.path().join("blobs"), elsewhere.path().join("blobs")).unwrap();
    symlink(elsewhere.path().join("blobs"), draft.path().join("blobs")).unwrap();
    assert!(draft.error().contains("\"blobs\" is a symbolic link"));

    // A pipe under the name of a blob keeps nobody waiting.
    let (draft, digest) = listed(&image);
    fs::remove_file(draft.blob_path(&digest)).unwrap();
    nix::unistd::mkfifo(&draft.blob_path(&digest), nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(draft.error().contains("is no file"));

    let deep = |draft: &Draft| {
        let mut at = draft.index(&draft.image("one"));
        for _ in 0..MAX_DEPTH {
            let child = descriptor(&MediaType::OCI_INDEX, draft, &at);
            at = draft.blob(json!({"schemaVersion": 2, "manifests": [child]}).to_string().as_bytes());
        }
        at
    };
    let mut draft = Draft::new();
    let at = deep(&draft);
    draft.list(&MediaType::OCI_INDEX, &at, json!({}));
    assert!(draft.error().contains("is an index within 8 others"));

    let draft = Draft::new();
    fs::write(draft.path().join("oci-layout"), r#"{"imageLayoutVersion":"2.0.0"}"#).unwrap();
    assert!(draft.error().contains("version \"2.0.0\", expected 1.0.0"));
    let huge = fs::File::create(draft.path().join("oci-layout")).unwrap();
    huge.set_len(1 << 40).unwrap();
    assert!(draft.error().contains("where at most 4096 are read"));
}

#[test]
fn a_directory_of_very_many_files_is_looked_through() {
    let mut draft = Draft::new();
    let image = draft.image("one");
    draft.list(&IMAGE, &image, json!({}));
    for n in 0..20_000_u32 {
        let name = Digest::sha256(&n.to_be_bytes()).encoded();
        fs::write(draft.path().join("blobs/sha256").join(name), "x").unwrap();
    }
    let layout = draft.open().unwrap();
    assert_eq!((layout.images.len(), layout.referrers(&image).len()), (1, 0));
}

/// A tar file with these members, as a tar program writes them.
fn tar_of(members: &[(&str, tar::EntryType, &[u8])]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, bytes) in members {
        let mut header = tar::Header::new_gnu();
        header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(*kind);
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        header.set_cksum();
        builder.append(&header, *bytes).unwrap();
    }
    builder.into_inner().unwrap()
}

#[test]
fn a_tar_file_is_read_where_it_lies() {
    let mut draft = Draft::new();
    let image = draft.image("one");
    draft.list(&IMAGE, &image, json!({REF_NAME: "v1"}));
    draft.open().unwrap();
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("image.tar");
    for format in ["gnu", "pax"] {
        let mut tar = std::process::Command::new("tar");
        let tar = tar.arg(format!("--format={format}")).arg("-cf").arg(&file).arg("-C").arg(draft.path()).arg(".");
        assert!(tar.status().unwrap().success());
        let layout = Layout::open(&file).unwrap();
        assert_eq!(layout.choose(&Wanted::Name("v1".to_owned())).unwrap().digest, image, "{format}");
        layout.check(&image).unwrap();
    }
    let whole = fs::read(&file).unwrap();
    let error = |bytes: &[u8]| {
        let file = out.path().join("bad.tar");
        fs::write(&file, bytes).unwrap();
        format!("{:#}", Layout::open(&file).err().expect("it is refused"))
    };
    let at = whole.windows(3).position(|bytes| bytes == b"one").unwrap();
    assert!(error(&whole[..at + 1]).contains("it ends within"), "{}", error(&whole[..at + 1]));
    assert!(error(&[0x1f, 0x8b, 8, 0, 0]).contains("is compressed"));
    let (regular, link) = (tar::EntryType::Regular, tar::EntryType::Symlink);
    for (members, expected) in [
        (vec![("../index.json", regular, &b"{}"[..])], "leads out of the tar file"),
        (vec![("/etc/passwd", regular, b"")], "leads out of the tar file"),
        (vec![("blobs/../../x/", tar::EntryType::Directory, b"")], "leads out of the tar file"),
        (vec![("blobs/sha256/x", link, b"")], "is neither a file nor a directory (type '2')"),
        (vec![("blobs/sha256/x", tar::EntryType::Link, b"")], "is neither a file nor a directory (type '1')"),
        (vec![("index.json", regular, b"{}"), ("./index.json", regular, b"{}")], "is in it twice"),
        (vec![("x", tar::EntryType::XHeader, b"19 path=index.json\n"), ("y", regular, b"")], "another name or size"),
        (vec![("x", regular, b"")], "there is no oci-layout in it"),
    ] {
        let said = error(&tar_of(&members));
        assert!(said.contains(expected), "{members:?}: {said}");
    }
    assert!(!error(b"no tar file at all, but long enough to be looked at").is_empty());
}

#[test]
fn addresses_are_told_from_images_and_split_where_the_files_are() {
    let dir = tempfile::tempdir().unwrap();
    let odd = dir.path().join("a:b@c");
    fs::create_dir(&odd).unwrap();
    let (dir, odd) = (dir.path().to_str().unwrap(), odd.to_str().unwrap());
    let digest = Digest::sha256(b"x");
    for (text, path, wanted) in [
        (format!("oci:{dir}"), dir, Wanted::TheOne),
        (dir.to_owned(), dir, Wanted::TheOne),
        (format!("{dir}:v1"), dir, Wanted::Name("v1".to_owned())),
        (format!("oci:{odd}"), odd, Wanted::TheOne),
        (format!("oci:{odd}:registry.example/app:v1"), odd, Wanted::Name("registry.example/app:v1".to_owned())),
        (format!("oci-archive:{odd}@{digest}"), odd, Wanted::Digest(digest)),
        (format!("oci:{odd}:registry.example/app@{digest}"), odd, Wanted::Digest(digest)),
    ] {
        assert_eq!(Address::of(&text).unwrap().resolve().unwrap(), (path.into(), wanted), "{text}");
    }
    for image in ["nginx", "docker.io/library/nginx:1", "localhost:5000/app"] {
        assert_eq!(Address::of(image), None, "{image}");
    }
    let absent = Address::of(&format!("{dir}/none:v1")).unwrap().resolve().unwrap_err().to_string();
    assert!(absent.starts_with("there is no file or directory"), "{absent}");
}
