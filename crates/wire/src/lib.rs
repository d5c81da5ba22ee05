//! Codecs without sockets: HTTP/1 heads and bodies, protocol sniffing, DNS.
