use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::exit::Exit;

fn failure(change: impl FnOnce(&mut Options)) -> String {
    let mut options = Options::default();
    change(&mut options);
    let failure = CredentialSource::new(&options).expect_err("an error");
    assert_eq!(failure.exit, Exit::Usage);
    failure.to_string()
}

fn file(content: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), content).unwrap();
    file
}

#[test]
fn a_token_on_the_command_line_is_refused_and_not_repeated() {
    let text = failure(|options| options.token = Some("hunter2".into()));
    assert!(
        text.starts_with("--token: ") && text.contains("--token-file"),
        "{text}"
    );
    assert!(!text.contains("hunter2"), "{text}");
    let text = failure(|options| options.token = Some("env:PSQ_NO_SUCH_VARIABLE".into()));
    assert!(text.contains("PSQ_NO_SUCH_VARIABLE"), "{text}");
}

#[test]
fn a_token_is_read_again_for_each_connection() {
    let file = file("first\n");
    let options = Options {
        token_file: Some(file.path().into()),
        ..Options::default()
    };
    let source = CredentialSource::new(&options).unwrap();
    let first = source.read().unwrap();
    assert_eq!(first, Some(Credentials::bearer("first").unwrap()));
    fs::write(file.path(), "second").unwrap();
    assert_ne!(source.read().unwrap(), first);
    fs::write(file.path(), "not a token: hunter2").unwrap();
    let text = source.read().unwrap_err().to_string();
    assert!(!text.contains("hunter2"), "{text}");
    fs::remove_file(file.path()).unwrap();
    assert!(source.read().is_err());
}

#[test]
fn a_user_has_a_password_from_a_file() {
    let file = file("pass word\n");
    let options = Options {
        user: Some("me".into()),
        password_file: Some(file.path().into()),
        ..Options::default()
    };
    let read = CredentialSource::new(&options).unwrap().read().unwrap();
    assert_eq!(read, Some(Credentials::basic("me", "pass word").unwrap()));
    assert!(!format!("{read:?}").contains("word"));
}

#[test]
fn there_is_one_kind_of_credentials() {
    let file = file("x");
    let path = || Some(file.path().to_owned());
    let text = failure(|options| {
        (options.token, options.token_file) = (Some("-".into()), path());
    });
    assert_eq!(
        text,
        "--token and --token-file exclude each other: keep one"
    );
    let text = failure(|options| (options.token_file, options.user) = (path(), Some("me".into())));
    assert_eq!(text, "--token-file and --user exclude each other: keep one");
    let text = failure(|options| options.password_file = path());
    assert!(text.starts_with("--password-file: "), "{text}");
}

#[test]
fn a_file_that_others_can_read_is_refused() {
    let file = file("hunter2");
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
    let text = failure(|options| options.token_file = Some(file.path().into()));
    assert!(text.contains("0644") && !text.contains("hunter2"), "{text}");
    let text = failure(|options| {
        (options.user, options.password_file) = (Some("me".into()), Some(file.path().into()));
    });
    assert!(text.contains("0644") && !text.contains("hunter2"), "{text}");
}

#[test]
fn certificate_and_key_go_together() {
    let file = file("");
    let path = || Some(file.path().to_owned());
    let text = |cert, key| {
        let options = Options {
            cert,
            key,
            ..Options::default()
        };
        key_pair(&options).map_err(|failure| failure.to_string())
    };
    assert_eq!(text(None, None), Ok(None));
    assert!(text(path(), None).unwrap_err().contains("go together"));
    assert!(text(None, path()).unwrap_err().contains("go together"));
    assert!(text(path(), path()).unwrap_err().starts_with("--cert: "));
    fs::set_permissions(file.path(), fs::Permissions::from_mode(0o640)).unwrap();
    assert!(text(path(), path()).unwrap_err().contains("chmod 600"));
    assert!(text(path(), Some("/nonexistent".into())).is_err());
}
