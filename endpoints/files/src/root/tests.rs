use std::fs;
use std::io::Read;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rustix::fs::{RenameFlags, mkfifoat, renameat_with};
use tempfile::TempDir;

use super::*;
use crate::tests::CANARY;

const RESOLVERS: [Resolver; 3] = [
    Resolver::Kernel {
        follow_symlinks: false,
    },
    Resolver::Kernel {
        follow_symlinks: true,
    },
    Resolver::Walk,
];

/// `public`, and a canary beside it.
fn layout() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("public/sub")).unwrap();
    fs::create_dir(folder.path().join("outside")).unwrap();
    for canary in ["canary.txt", "outside/file"] {
        fs::write(folder.path().join(canary), CANARY).unwrap();
    }
    fs::write(folder.path().join("public/sub/file"), "inside").unwrap();
    folder
}

fn open(layout: &TempDir, resolver: Resolver) -> Root {
    Root::open(&layout.path().join("public"), false)
        .unwrap()
        .with_resolver(resolver)
}

fn find(root: &Root, path: &str) -> io::Result<Found> {
    root.find(&RelativePath::unchecked(path))
}

#[test]
fn this_kernel_resolves_by_itself() {
    let layout = layout();
    for follow_symlinks in [false, true] {
        let root = Root::open(&layout.path().join("public"), follow_symlinks).unwrap();
        assert_eq!(root.resolver, Resolver::Kernel { follow_symlinks });
    }
}

#[test]
fn without_the_kernel_s_help_no_links_can_be_followed() {
    assert_eq!(walk_only(false).unwrap(), Resolver::Walk);
    assert_eq!(
        walk_only(true).unwrap_err().kind(),
        io::ErrorKind::Unsupported
    );
}

#[test]
fn files_and_folders_are_told_apart() {
    let layout = layout();
    for resolver in RESOLVERS {
        let root = open(&layout, resolver);
        assert!(
            matches!(find(&root, "sub/file").unwrap(), Found::File(_)),
            "{resolver:?}"
        );
        for folder in ["", "sub"] {
            assert!(
                matches!(find(&root, folder).unwrap(), Found::Folder),
                "{resolver:?}"
            );
        }
        for (path, errno) in [("a", Errno::NOENT), ("sub/file/a", Errno::NOTDIR)] {
            let error = find(&root, path).unwrap_err();
            assert_eq!(Errno::from_io_error(&error), Some(errno), "{resolver:?}");
        }
    }
}

/// The checks of the path removed, the kernel still refuses.
#[test]
fn fs_08_the_kernel_refuses_to_leave_the_root() {
    let layout = layout();
    let canary = layout.path().join("canary.txt");
    for follow_symlinks in [false, true] {
        let root = open(&layout, Resolver::Kernel { follow_symlinks });
        for path in [
            "../canary.txt",
            "sub/../../canary.txt",
            "/etc/passwd",
            canary.to_str().unwrap(),
        ] {
            let error = find(&root, path).unwrap_err();
            assert_eq!(Errno::from_io_error(&error), Some(Errno::XDEV), "{path}");
        }
    }
}

#[test]
fn fs_08_links_are_not_followed_in_any_place() {
    let layout = layout();
    let public = layout.path().join("public");
    symlink("sub", public.join("folder")).unwrap();
    symlink("sub/file", public.join("file")).unwrap();
    symlink("../canary.txt", public.join("out")).unwrap();
    for resolver in [
        Resolver::Kernel {
            follow_symlinks: false,
        },
        Resolver::Walk,
    ] {
        let root = open(&layout, resolver);
        for path in ["folder", "folder/file", "file", "out"] {
            assert!(
                !matches!(find(&root, path), Ok(Found::File(_) | Found::Folder)),
                "{path}"
            );
        }
    }
}

/// Looking comes first and stops at a link; this is for the one that appears in between.
#[test]
fn fs_08_opening_alone_follows_no_link() {
    let layout = layout();
    symlink("sub/file", layout.path().join("public/link")).unwrap();
    for resolver in [
        Resolver::Kernel {
            follow_symlinks: false,
        },
        Resolver::Walk,
    ] {
        let error = open(&layout, resolver)
            .open_at(Path::new("link"), READ)
            .unwrap_err();
        assert_eq!(
            Errno::from_io_error(&error),
            Some(Errno::LOOP),
            "{resolver:?}"
        );
    }
}

/// Threat row 47: each resolver against a folder that is swapped for a link to the outside.
#[test]
fn fs_08_a_folder_swapped_for_a_link_never_lets_anything_out() {
    for resolver in RESOLVERS {
        race(resolver, "sub", "outside", "sub/file");
    }
}

/// The same, with the file itself.
#[test]
fn fs_08_a_file_swapped_for_a_link_never_lets_anything_out() {
    for resolver in RESOLVERS {
        race(resolver, "sub/file", "canary.txt", "sub/file");
    }
}

/// Swaps `inside` for a link to `outside` and back, 10,000 times, while `asked` is looked for.
fn race(resolver: Resolver, inside: &str, outside: &str, asked: &str) {
    const SWAPS: usize = 10_000;
    let layout = layout();
    let inside = layout.path().join("public").join(inside);
    let link = layout.path().join("public/link");
    symlink(layout.path().join(outside), &link).unwrap();
    let root = open(&layout, resolver);
    let seen_both = AtomicBool::new(false);
    let done = AtomicBool::new(false);
    let (mut served, mut refused) = (0, 0);
    thread::scope(|scope| {
        scope.spawn(|| {
            let deadline = Instant::now() + Duration::from_secs(20);
            let mut swaps = 0;
            while swaps < SWAPS || !seen_both.load(Ordering::Relaxed) && Instant::now() < deadline {
                renameat_with(CWD, &inside, CWD, &link, RenameFlags::EXCHANGE).unwrap();
                swaps += 1;
            }
            done.store(true, Ordering::Relaxed);
        });
        while !done.load(Ordering::Relaxed) {
            match find(&root, asked) {
                Ok(Found::File(mut file)) => {
                    let mut content = String::new();
                    file.read_to_string(&mut content).unwrap();
                    assert_eq!(content, "inside", "{resolver:?}");
                    served += 1;
                }
                _ => refused += 1,
            }
            seen_both.store(served > 0 && refused > 0, Ordering::Relaxed);
        }
    });
    assert!(
        served > 0 && refused > 0,
        "{resolver:?}: {served} served, {refused} refused"
    );
}

#[test]
fn fs_09_devices_fifos_and_sockets_are_no_files() {
    let layout = layout();
    let public = layout.path().join("public");
    mkfifoat(CWD, public.join("fifo"), Mode::RWXU).unwrap();
    let _listener = UnixListener::bind(public.join("socket")).unwrap();
    for resolver in RESOLVERS {
        let root = open(&layout, resolver);
        for path in ["fifo", "socket"] {
            assert!(matches!(find(&root, path).unwrap(), Found::Other), "{path}");
        }
        let devices = Root::open(Path::new("/dev"), false)
            .unwrap()
            .with_resolver(resolver);
        for path in ["null", "zero", "tty"] {
            assert!(
                matches!(find(&devices, path).unwrap(), Found::Other),
                "{path}"
            );
        }
    }
}

/// Not even without waiting: opening alone wakes a FIFO's writer and makes some devices act.
#[test]
fn fs_09_a_fifo_is_never_opened() {
    use rustix::fs::inotify::{CreateFlags, Reader, WatchFlags, add_watch, init};

    let layout = layout();
    let sub = layout.path().join("public/sub");
    mkfifoat(CWD, sub.join("fifo"), Mode::RWXU).unwrap();
    for resolver in RESOLVERS {
        let root = open(&layout, resolver);
        let opened = |path: &str| {
            let watch = init(CreateFlags::NONBLOCK).unwrap();
            add_watch(&watch, sub.join(path), WatchFlags::OPEN).unwrap();
            drop(find(&root, &format!("sub/{path}")).unwrap());
            let mut buffer = [std::mem::MaybeUninit::uninit(); 1024];
            Reader::new(&watch, &mut buffer).next().is_ok()
        };
        assert!(!opened("fifo"), "{resolver:?}");
        assert!(opened("file"), "{resolver:?}");
    }
}
