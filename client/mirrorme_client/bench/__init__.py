"""Load tests of an endpoint: conversations that are played live, and what is measured of them."""
