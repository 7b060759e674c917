//! IP tunnels over HTTP/3: CONNECT-IP (RFC 9484), both ends.
