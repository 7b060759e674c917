//! What a person sees of downloads under way. Nothing is drawn unless standard error is a terminal.

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// The bars of all downloads.
pub(crate) struct Progress {
    bars: MultiProgress,
    style: ProgressStyle,
}

impl Progress {
    pub(crate) fn new() -> Self {
        let template = "{msg:24!} {wide_bar} {bytes}/{total_bytes} {bytes_per_sec} {eta}";
        // A template that indicatif does not understand costs the looks, not the download.
        let style =
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
        Self {
            bars: MultiProgress::new(),
            style,
        }
    }

    /// Starts a bar for a file of `len` bytes of which `have` are there.
    pub(crate) fn bar(&self, name: String, len: u64, have: u64) -> Bar {
        let bar = ProgressBar::new(len)
            .with_style(self.style.clone())
            .with_message(name);
        let bar = self.bars.add(bar.with_position(have));
        bar.reset_eta();
        Bar(bar)
    }

    /// Prints something that the bars would otherwise overwrite.
    pub(crate) fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bars.suspend(print)
    }
}

/// The bar of one download; it goes away when dropped.
#[derive(Debug)]
pub(crate) struct Bar(ProgressBar);

impl Bar {
    pub(crate) fn advance(&self, bytes: u64) {
        self.0.inc(bytes);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
