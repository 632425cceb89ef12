//! What all of the lab's pictures have in common: a white page of plain SVG with a title, which any browser
//! and any review tool shows, text that may stand in it, and the way into a file.

use std::{fs, path::Path};

use crate::error::{LabError, Result};

/// A picture of a size, its title at a place, and the shapes that are drawn in it.
pub(crate) fn document(size: (f64, f64), title_at: (f64, f64), title: &str, shapes: &str) -> String {
    let ((width, height), (x, y)) = (size, title_at);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" \
         height=\"{height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"{x}\" y=\"{y}\" font-size=\"15\" fill=\"#111\">{}</text>\n{shapes}</svg>\n",
        escape(title)
    )
}

/// Text as it stands between tags.
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// Writes a picture to a file, whose folder is made if it is not there.
pub(crate) fn write(path: &Path, svg: &str) -> Result<()> {
    if let Some(dir) = path.parent().filter(|dir| !dir.as_os_str().is_empty()) {
        fs::create_dir_all(dir).map_err(LabError::io(format!("create {}", dir.display())))?;
    }
    fs::write(path, svg).map_err(LabError::io(format!("write {}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_whole_and_its_title_is_text() {
        let svg = document((1130.0, 62.5), (110.0, 22.0), "a < b & c", "<shapes/>\n");
        assert_eq!(
            svg,
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 1130 62.5\" width=\"1130\" height=\"62.5\" \
             font-family=\"sans-serif\" font-size=\"12\">\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
             <text x=\"110\" y=\"22\" font-size=\"15\" fill=\"#111\">a &lt; b &amp; c</text>\n<shapes/>\n</svg>\n"
        );
    }

    #[test]
    fn the_folder_of_a_picture_is_made() {
        let dir = std::env::temp_dir().join(format!("lab-svg-{}", std::process::id()));
        let path = dir.join("below").join("picture.svg");
        write(&path, "text").unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "text");
        // What cannot be a folder is named.
        let error = write(&path.join("x.svg"), "text").unwrap_err().to_string();
        assert!(error.contains("picture.svg"), "{error}");
        fs::remove_dir_all(dir).unwrap();
    }
}
