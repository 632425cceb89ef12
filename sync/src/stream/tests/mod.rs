mod delta;
mod hostile;
mod merge;
mod pair;
mod random;
mod repair;
mod table;
