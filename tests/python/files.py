"""Files over libcurl, with HTTP/3 and nothing else: `files.py ORIGIN CA FILE`.

FILE is what the server has as /files/alphabet.txt. Ends with exit code 0 if it is served as RFC
9110 demands, and with a traceback otherwise.
"""

import sys

from curl_cffi import CurlHttpVersion, requests

HTTP_3 = 30  # CURL_HTTP_VERSION_3, as libcurl reports what was spoken.


def main(origin, ca, file):
    with open(file, "rb") as opened:
        content = opened.read()
    with requests.Session(http_version=CurlHttpVersion.V3ONLY, verify=ca, timeout=20) as session:

        def ask(method, path="/files/alphabet.txt", **headers):
            response = session.request(method, origin + path, headers=headers)
            assert response.http_version == HTTP_3, response.http_version
            return response

        whole = ask("GET")
        assert (whole.status_code, whole.content) == (200, content), whole
        assert whole.headers["content-type"].startswith("text/plain"), whole.headers
        assert whole.headers["accept-ranges"] == "bytes", whole.headers
        assert "last-modified" in whole.headers, whole.headers

        head = ask("HEAD")
        assert (head.status_code, head.content) == (200, b""), head
        assert head.headers["content-length"] == str(len(content)), head.headers
        assert head.headers["etag"] == whole.headers["etag"], head.headers

        for sent, first, last in (
            ("bytes=2-5", 2, 5),
            ("bytes=20-", 20, len(content) - 1),
            ("bytes=-3", len(content) - 3, len(content) - 1),
        ):
            part = ask("GET", Range=sent)
            assert (part.status_code, part.content) == (206, content[first : last + 1]), part
            expected = f"bytes {first}-{last}/{len(content)}"
            assert part.headers["content-range"] == expected, part.headers

        beyond = ask("GET", Range=f"bytes={len(content)}-")
        assert beyond.status_code == 416, beyond
        assert beyond.headers["content-range"] == f"bytes */{len(content)}", beyond.headers

        known = ask("GET", **{"If-None-Match": whole.headers["etag"]})
        assert (known.status_code, known.content) == (304, b""), known

        for path in ("/files/missing", "/elsewhere", "/files/.hidden", "/files/%2e%2e/server.json"):
            missing = ask("GET", path)
            assert missing.status_code == 404, (path, missing)

        refused = ask("POST")
        assert refused.status_code == 405, refused
        assert refused.headers["allow"] == "GET, HEAD", refused.headers


if __name__ == "__main__":
    main(*sys.argv[1:])
