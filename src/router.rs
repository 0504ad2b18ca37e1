//! Every surface and layer, in order, on one page.
