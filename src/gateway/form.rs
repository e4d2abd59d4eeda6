//! multipart/form-data, as far as the gateway cares: where its `model` part lies (RFC 7578).
//!
//! Nothing is parsed beyond that; every other byte passes as it came.

use bytes::Bytes;
use memchr::memmem;
use std::ops::Range;

/// The boundary named by a `multipart/form-data` content type.
pub fn boundary(content_type: Option<&[u8]>) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(content_type?).ok()?;
    let (kind, parameters) = text.split_once(';')?;
    if !kind.trim().eq_ignore_ascii_case("multipart/form-data") {
        return None;
    }
    parameters.split(';').find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"');
        (name.trim().eq_ignore_ascii_case("boundary") && !value.is_empty()).then(|| value.as_bytes().to_vec())
    })
}

/// Where the value of the part named `model` lies.
pub fn model_part(body: &[u8], boundary: &[u8]) -> Option<Range<usize>> {
    let delimiter = [b"--", boundary].concat();
    let starts: Vec<usize> = memmem::find_iter(body, &delimiter).collect();
    starts.windows(2).find_map(|pair| {
        let part = pair[0] + delimiter.len()..pair[1];
        let head_end = memmem::find(&body[part.clone()], b"\r\n\r\n")? + part.start;
        if !is_model(&body[part.start..head_end]) {
            return None;
        }
        let value = head_end + 4..part.end.checked_sub(2)?;
        (value.start <= value.end).then_some(value)
    })
}

fn is_model(head: &[u8]) -> bool {
    let text = String::from_utf8_lossy(head);
    text.split("\r\n").any(|line| {
        let Some((name, value)) = line.split_once(':') else { return false };
        name.trim().eq_ignore_ascii_case("content-disposition")
            && value.split(';').any(|parameter| matches!(parameter.trim(), "name=\"model\"" | "name=model"))
    })
}

/// The body with its model part replaced.
pub fn with_model(body: &Bytes, part: &Range<usize>, model: &str) -> Bytes {
    let mut edited = Vec::with_capacity(body.len() + model.len());
    edited.extend_from_slice(&body[..part.start]);
    edited.extend_from_slice(model.as_bytes());
    edited.extend_from_slice(&body[part.end..]);
    edited.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BODY: &[u8] =
        b"--BB\r\nContent-Disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n\x00name=\"model\"\r\n--BB\r\n\
        content-disposition: form-data; name=\"model\"\r\n\r\nwhisper\r\n--BB--\r\n";

    #[test]
    fn the_model_part_is_found_and_only_it_changes() {
        let part = model_part(BODY, b"BB").unwrap();
        assert_eq!(&BODY[part.clone()], b"whisper");
        let edited = with_model(&Bytes::from_static(BODY), &part, "openai/whisper-1");
        let text = String::from_utf8_lossy(&edited);
        assert!(text.contains("\r\n\r\nopenai/whisper-1\r\n--BB--"), "{text}");
        assert_eq!(edited.len(), BODY.len() + "openai/whisper-1".len() - "whisper".len());
    }

    #[test]
    fn nothing_is_found_where_nothing_is() {
        assert_eq!(model_part(b"", b"BB"), None);
        assert_eq!(model_part(b"--BB\r\n--BB--", b"BB"), None);
        assert_eq!(model_part(b"--BB\r\nContent-Disposition: form-data; name=\"x\"\r\n\r\nv\r\n--BB--", b"BB"), None);
        assert_eq!(model_part(b"--BB\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\n--BB--", b"BB"), None);
    }

    #[test]
    fn boundaries_come_quoted_or_not() {
        assert_eq!(boundary(Some(b"multipart/form-data; boundary=\"a b\"")), Some(b"a b".to_vec()));
        assert_eq!(boundary(Some(b"Multipart/Form-Data; charset=x; Boundary=abc")), Some(b"abc".to_vec()));
        assert_eq!(boundary(Some(b"application/json; boundary=abc")), None);
        assert_eq!(boundary(None), None);
    }
}
